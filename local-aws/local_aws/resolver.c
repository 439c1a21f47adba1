/* Points the C library's resolver to the local AWS's DNS server, in the process that preloads this library.

   The resolver reads its server from /etc/resolv.conf, which only root can change and which has no place for a port.
   What it read is in `_res`, for each thread: https://man7.org/linux/man-pages/man3/resolver.3.html
   Everything else of a look-up is the C library's own: the query, its retries, both address families, their order. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dlfcn.h>
#include <netdb.h>
#include <nss.h>
#include <resolv.h>

typedef int lookup(const char *, const char *, const struct addrinfo *, struct addrinfo **);

int getaddrinfo(const char *name, const char *service, const struct addrinfo *hints, struct addrinfo **found)
{
    __nss_configure_lookup("hosts", "files dns"); /* some machines ask another service first, such as systemd's */
    res_init();
    _res.options &= ~(RES_DEFNAMES | RES_DNSRCH); /* no search domain of this machine */
    _res.nscount = 1;
    _res.nsaddr_list[0] = (struct sockaddr_in){
        .sin_family = AF_INET, .sin_port = htons(DNS_PORT), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    return ((lookup *)dlsym(RTLD_NEXT, "getaddrinfo"))(name, service, hints, found);
}
