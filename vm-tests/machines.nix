# What all other scenarios rely on, of machines: their names, the network's cable, a power cut, a reboot.
{
  nodes = {
    one = { };
    two = { };
  };
}
