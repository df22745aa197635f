"""The network-namespace lab, its traffic and its judge; knows the program only from outside."""
