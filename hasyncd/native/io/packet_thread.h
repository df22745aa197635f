/* The packet thread: forwards without the interpreter, so that a stall there stalls no established flow.
 *
 * It owns the receive side of a `hs_packet_io` between `start` and `stop`. When a batch has appended records
 * to the delta log it makes an eventfd readable: that is all the shell has to wait for.
 */
#ifndef HS_PACKET_THREAD_H
#define HS_PACKET_THREAD_H

#include "io/packet_socket.h"

struct hs_packet_thread;

/* NULL with errno where the thread cannot be made. Both sockets are open. */
struct hs_packet_thread *hs_packet_thread_start(struct hs_packet_io *io, struct hs_gateway *gateway);
/* Waits for the batch under way. */
void hs_packet_thread_stop(struct hs_packet_thread *thread);

/* Readable once records were appended; whoever reads it may drain. */
int hs_packet_thread_news(const struct hs_packet_thread *thread);

#endif
