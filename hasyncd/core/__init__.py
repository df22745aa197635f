"""The pair as a state machine: values in, effects out. No clock, socket, random, log, thread or await."""
