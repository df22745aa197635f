/* What the programs that load a gateway through a packet socket share. What goes wrong ends them, with a word on
 * stderr. */
#ifndef HS_PACKET_LOAD_H
#define HS_PACKET_LOAD_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

enum { FIRST_PORT = 1024, PORTS = 64512 }; /* source ports, all in turn */

/* Ends the program with `what` and errno's text. */
_Noreturn void fail(const char *what);
/* CLOCK_MONOTONIC. */
double now_s(void);

/* Network order. */
void put16(uint8_t *at, uint32_t value);
void put32(uint8_t *at, uint32_t value);
/* RFC 1071: the sum of an even number of bytes, and its 16 bits. */
uint32_t sum_of(const uint8_t *at, int length);
uint32_t fold(uint32_t sum);

/* Arguments: an IPv4 address in host order, a MAC. */
uint32_t address_of(const char *text);
void read_mac(const char *text, uint8_t *mac);

/* Goes into a network namespace of `ip netns`. */
void enter(const char *namespace);
int index_of(const char *device);
/* A socket that sends from a device of this namespace, with a vnet header in front of frames or without; fills
 * `own_mac`. */
int open_packet_socket(const char *device, bool with_vnet, uint8_t *own_mac);
/* Sends them all, however often the queue is full. */
void send_whole_batch(int fd, struct mmsghdr *messages, int count);
/* The first core is the sender's; it sleeps no longer than it is told. */
void take_first_core(void);

#endif
