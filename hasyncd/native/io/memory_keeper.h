/* A killed daemon's sockets close at once, whatever memory it has. */
#ifndef HS_IO_MEMORY_KEEPER_H
#define HS_IO_MEMORY_KEEPER_H

/* Starts the keeper; once a process, from the thread that runs it, with nothing else running. Returns its pid, or
 * -errno: then the process does without, and its end takes longer. */
int hs_memory_keeper_start(void);

#endif
