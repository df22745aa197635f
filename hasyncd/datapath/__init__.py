"""How packets move: the packet engine over the C extension, and its mirror of the kernel."""
