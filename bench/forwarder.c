/* The floor of forwarding: the least that a proxy on one core can do, and the least behind it.
 *
 *   forwarder proxy PORT    clients' frames go to one upstream connection at 127.0.0.1:PORT, each with a
 *                           10-byte header in front; what comes from there goes to the clients it names
 *   forwarder echo          the upstream: each frame goes back to where it came from
 *
 * A client's frame is a big-endian u32 of length and a payload. Upstream it is a u24 of length, the header and
 * the payload. The header: a byte whose upper three bits are the kind (0 to one client, 1 to a list of them, 7 a
 * client has come or gone: payload O or C), a byte of flags, the destination (u32), the source (u32). A list
 * stands at the payload's head: a u16 of count, then as many u32.
 *
 * One thread, level-triggered epoll; one write a connection and turn for all that goes to it. Prints
 * "ready tcp://127.0.0.1:PORT". What it lacks (limits, backpressure, acknowledgements, sessions that outlive
 * their connection) is what a floor may lack. */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    BUFFER = 1024 * 1024, /* a read, behind the beginning of a frame */
    EVENTS = 1024,
    PEERS = 65536, /* by descriptor */
    LENGTH = 4,    /* of a client's frame */
    LINK = 13,     /* upstream: length and header */
    TO_ONE = 0,
    TO_LIST = 1,
    NOTICE = 7
};

struct peer {
    char *begun; /* of a frame whose rest has not come */
    size_t begun_count;
    char *out; /* what goes to it at the end of the turn, or waits for its socket */
    size_t out_count, out_size;
    int open, touched, waiting;
};

static struct peer peers[PEERS];
static int touched[PEERS];
static int touched_count;
static char buffer[2 * BUFFER];
static int poller, listener, upstream = -1;

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static uint32_t read_u32(const char *at) {
    uint32_t value;
    memcpy(&value, at, 4);
    return ntohl(value);
}

static void write_u32(char *at, uint32_t value) {
    value = htonl(value);
    memcpy(at, &value, 4);
}

/* Room for so many bytes more to this peer, which is written to at the end of the turn. */
static char *room(int fd, size_t count) {
    struct peer *peer = &peers[fd];
    if (peer->out_count + count > peer->out_size) {
        peer->out_size = 2 * (peer->out_count + count);
        peer->out = realloc(peer->out, peer->out_size);
        if (peer->out == NULL)
            fail("forwarder: memory");
    }
    if (!peer->touched) {
        peer->touched = 1;
        touched[touched_count++] = fd;
    }
    char *at = peer->out + peer->out_count;
    peer->out_count += count;
    return at;
}

static void to_client(uint32_t fd, const char *payload, size_t count) {
    if (fd >= PEERS || !peers[fd].open || (int)fd == upstream)
        return; /* it has gone meanwhile */
    char *at = room(fd, LENGTH + count);
    write_u32(at, count);
    memcpy(at + LENGTH, payload, count);
}

static void to_link(int link, int kind, uint32_t destination, uint32_t source, const char *payload, size_t count) {
    char *at = room(link, LINK + count);
    /* The length is three bytes: the fourth is the header's first. */
    write_u32(at, (uint32_t)(LINK - 3 + count) << 8 | kind << 5);
    at[4] = 0;
    write_u32(at + 5, destination);
    write_u32(at + 9, source);
    memcpy(at + LINK, payload, count);
}

static void flush(int fd) {
    struct peer *peer = &peers[fd];
    ssize_t count = send(fd, peer->out, peer->out_count, MSG_NOSIGNAL);
    if (count < 0)
        count = 0; /* full, or gone: reading it says which */
    memmove(peer->out, peer->out + count, peer->out_count - count);
    peer->out_count -= count;
    int waits = peer->out_count > 0;
    if (waits != peer->waiting) {
        struct epoll_event event = {.events = waits ? EPOLLIN | EPOLLOUT : EPOLLIN, .data.fd = fd};
        if (epoll_ctl(poller, EPOLL_CTL_MOD, fd, &event))
            fail("forwarder: epoll_ctl");
        peer->waiting = waits;
    }
}

static void admit(int fd) {
    int one = 1;
    struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
    if (fd >= PEERS) {
        fprintf(stderr, "forwarder: more than %d connections\n", PEERS);
        exit(1);
    }
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event))
        fail("forwarder: epoll_ctl");
    peers[fd].open = 1;
    if (upstream >= 0 && fd != upstream)
        to_link(upstream, NOTICE, 0, fd, "O", 1);
}

static void leave(int fd) {
    struct peer *peer = &peers[fd];
    if (fd == upstream) {
        fprintf(stderr, "forwarder: the upstream is gone\n");
        exit(1);
    }
    if (upstream >= 0)
        to_link(upstream, NOTICE, 0, fd, "C", 1);
    free(peer->begun);
    free(peer->out);
    for (int i = 0; peer->touched && i < touched_count; i++)
        if (touched[i] == fd)
            touched[i] = touched[--touched_count];
    memset(peer, 0, sizeof *peer);
    close(fd);
}

/* Takes a whole frame of so many bytes. */
static void take(int fd, const char *frame, size_t count) {
    if (upstream < 0) {
        if ((unsigned char)frame[3] >> 5 != NOTICE)
            to_link(fd, TO_ONE, read_u32(frame + 9), read_u32(frame + 5), frame + LINK, count - LINK);
        return;
    }
    if (fd != upstream) {
        to_link(upstream, TO_ONE, 0, fd, frame + LENGTH, count - LENGTH);
        return;
    }
    const char *payload = frame + LINK;
    size_t length = count - LINK;
    if ((unsigned char)frame[3] >> 5 == TO_LIST) {
        size_t listed = (unsigned char)payload[0] << 8 | (unsigned char)payload[1];
        size_t head = 2 + 4 * listed;
        for (size_t i = 0; head <= length && i < listed; i++)
            to_client(read_u32(payload + 2 + 4 * i), payload + head, length - head);
    } else {
        to_client(read_u32(frame + 5), payload, length);
    }
}

/* The whole length of the frame that begins here; 0 if that is not there yet. */
static size_t measure(int fd, const char *at, size_t count) {
    int linked = upstream < 0 || fd == upstream;
    if (count < (linked ? LINK : LENGTH))
        return 0;
    return linked ? 3 + (read_u32(at) >> 8) : LENGTH + (size_t)read_u32(at);
}

static void serve(int fd) {
    struct peer *peer = &peers[fd];
    if (peer->begun_count > 0)
        memcpy(buffer, peer->begun, peer->begun_count);
    ssize_t got = read(fd, buffer + peer->begun_count, BUFFER);
    if (got <= 0) {
        if (got == 0 || (errno != EAGAIN && errno != EINTR))
            leave(fd);
        return;
    }
    size_t at = 0, end = peer->begun_count + got, length;
    while ((length = measure(fd, buffer + at, end - at)) > 0 && length <= end - at) {
        take(fd, buffer + at, length);
        at += length;
    }
    if (length > BUFFER || (length > 0 && length < LENGTH)) {
        fprintf(stderr, "forwarder: a frame of %zu bytes\n", length);
        leave(fd);
        return;
    }
    peer->begun_count = end - at;
    free(peer->begun);
    peer->begun = NULL;
    if (peer->begun_count > 0) {
        peer->begun = malloc(peer->begun_count);
        if (peer->begun == NULL)
            fail("forwarder: memory");
        memcpy(peer->begun, buffer + at, peer->begun_count);
    }
}

static void listen_anywhere(void) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (listener < 0 || bind(listener, (struct sockaddr *)&address, length) || listen(listener, 4096))
        fail("forwarder: listen");
    if (getsockname(listener, (struct sockaddr *)&address, &length))
        fail("forwarder: getsockname");
    struct epoll_event event = {.events = EPOLLIN, .data.fd = listener};
    if (epoll_ctl(poller, EPOLL_CTL_ADD, listener, &event))
        fail("forwarder: epoll_ctl");
    printf("ready tcp://127.0.0.1:%d\n", ntohs(address.sin_port));
    fflush(stdout);
}

static void dial(int port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    address.sin_port = htons(port);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    /* It blocks while it connects, and not afterwards. */
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) || fcntl(fd, F_SETFL, O_NONBLOCK))
        fail("forwarder: upstream");
    upstream = fd;
    admit(fd);
}

int main(int argc, char **argv) {
    int proxying = argc == 3 && strcmp(argv[1], "proxy") == 0;
    if (!proxying && !(argc == 2 && strcmp(argv[1], "echo") == 0)) {
        fprintf(stderr, "usage: forwarder proxy PORT | forwarder echo\n");
        return 2;
    }
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);

    static struct epoll_event events[EVENTS];
    poller = epoll_create1(EPOLL_CLOEXEC);
    if (proxying)
        dial(atoi(argv[2]));
    listen_anywhere();
    for (;;) {
        int ready = epoll_wait(poller, events, EVENTS, -1);
        for (int i = 0; i < ready; i++) {
            int fd = events[i].data.fd;
            if (fd == listener)
                for (int one; (one = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0;)
                    admit(one);
            else {
                if (events[i].events & EPOLLOUT)
                    flush(fd);
                if (events[i].events & ~EPOLLOUT)
                    serve(fd);
            }
        }
        for (int i = 0; i < touched_count; i++) {
            peers[touched[i]].touched = 0;
            flush(touched[i]);
        }
        touched_count = 0;
    }
}
