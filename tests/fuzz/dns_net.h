/* Two ways from a program to the name servers of dns_script.h: a transport that hands the octets over within the process, and the real sockets of
 * transport_sockets_new, to a server on loopback that lives in the same loop. Whatever address is asked, it is that server that answers: nothing
 * ever leaves this host. */
#ifndef DKIMROLL_TESTS_DNS_NET_H
#define DKIMROLL_TESTS_DNS_NET_H

#include "dkimroll/transport.h"
#include "dns_script.h"

enum { DNS_NET_WALL = 1800000000, DNS_NET_BOOT = 1000000 };

struct dns_net;

/* A virtual loop with its network. sockets: the real ones. */
void dns_net_open(struct dns_script *script, bool sockets, struct dns_net **ret_net);
struct loop *dns_net_loop(struct dns_net *net);
struct transport *dns_net_transport(struct dns_net *net);
/* Ends everything; whoever asked must be gone. */
void dns_net_close(struct dns_net *net);

#endif
