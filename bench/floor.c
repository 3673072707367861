/* The floor: the least a server on one core can do for an echo, or for a broadcast.
 *
 *   floor echo        read() what is there, write() it back; no framing, no session, no queue
 *   floor broadcast   a frame whose payload begins with byte K > 0 is sent K times to every other
 *                     connection, one send() each time; one that begins with 0 goes back
 *
 * One thread, level-triggered epoll. Prints "ready tcp://127.0.0.1:PORT". What it lacks (partial
 * writes are an error, a frame is expected to come in one read) is what a floor may lack. */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum { BUFFER = 256 * 1024, EVENTS = 1024, MEMBERS = 65536, HEADER = 4 };

static char buffer[BUFFER];
static int members[MEMBERS];
static int member_count;

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static void write_all(int fd, const char *bytes, size_t count) {
    if (send(fd, bytes, count, MSG_NOSIGNAL) != (ssize_t)count)
        fprintf(stderr, "floor: a write was cut short: %s\n", strerror(errno));
}

static void join(int fd) {
    if (member_count == MEMBERS) {
        fprintf(stderr, "floor: more than %d connections\n", MEMBERS);
        exit(1);
    }
    members[member_count++] = fd;
}

static void leave(int fd) {
    for (int i = 0; i < member_count; i++)
        if (members[i] == fd) {
            members[i] = members[--member_count];
            break;
        }
    close(fd);
}

static void broadcast(int from, ssize_t count) {
    int times = count > HEADER ? buffer[HEADER] : 0;
    if (times == 0)
        write_all(from, buffer, count);
    for (int turn = 0; turn < times; turn++)
        for (int i = 0; i < member_count; i++)
            if (members[i] != from)
                write_all(members[i], buffer, count);
}

static int listen_anywhere(void) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, length) || listen(fd, 4096))
        fail("floor: listen");
    if (getsockname(fd, (struct sockaddr *)&address, &length))
        fail("floor: getsockname");
    printf("ready tcp://127.0.0.1:%d\n", ntohs(address.sin_port));
    fflush(stdout);
    return fd;
}

static void watch(int poller, int fd) {
    struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
    if (epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event))
        fail("floor: epoll_ctl");
}

static void accept_all(int poller, int listener) {
    int fd, one = 1;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        watch(poller, fd);
        join(fd);
    }
}

int main(int argc, char **argv) {
    int broadcasting = argc == 2 && strcmp(argv[1], "broadcast") == 0;
    if (!broadcasting && !(argc == 2 && strcmp(argv[1], "echo") == 0)) {
        fprintf(stderr, "usage: floor echo|broadcast\n");
        return 2;
    }
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);

    static struct epoll_event events[EVENTS];
    int poller = epoll_create1(EPOLL_CLOEXEC);
    int listener = listen_anywhere();
    watch(poller, listener);
    for (;;) {
        int ready = epoll_wait(poller, events, EVENTS, -1);
        for (int i = 0; i < ready; i++) {
            int fd = events[i].data.fd;
            if (fd == listener) {
                accept_all(poller, listener);
                continue;
            }
            ssize_t count = read(fd, buffer, sizeof buffer);
            if (count > 0 && broadcasting)
                broadcast(fd, count);
            else if (count > 0)
                write_all(fd, buffer, count);
            else if (count == 0 || (errno != EAGAIN && errno != EINTR))
                leave(fd);
        }
    }
}
