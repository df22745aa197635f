"""The lab: a pair of gateways between real clients and servers on one machine, and the drill that breaks it.

It knows the program only from outside: its commands, its configuration file and its control socket.
"""
