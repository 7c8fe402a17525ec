# A machine with the modules and nothing enabled.
{
  nodes.machine = { };
}
