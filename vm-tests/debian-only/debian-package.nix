# Debian's package: from nothing to a published file by the commands of docs/install.md, upgrade, removal and purge. NixOS has nothing of it.
{
  nodes.publisher = { };
}
