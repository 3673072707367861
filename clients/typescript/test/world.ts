/** A network of servers for the tests of the client, in virtual time: what is slow here takes no time at all. */

import { type Client, open } from "../src/client.js";
import type { ConnectOptions } from "../src/options.js";
import type { Surroundings } from "../src/surroundings.js";
import type { Listener, Transport } from "../src/transport.js";
import { joined } from "./bytes.js";
import { type Connection, Server, type ServerOptions } from "./server.js";

/** Milliseconds of one way. */
export const WAY = 10;

interface Link {
    readonly address: string;
    readonly listener: Listener;
    connection: Connection | undefined;
    open: boolean;
}

export class World implements Surroundings {
    readonly servers = new Map<string, Server>();
    readonly links: Link[] = [];
    /** Addresses that were tried, in order, and when. */
    readonly tries: { readonly address: string; readonly at: number }[] = [];
    /** Bytes that every transport claims to have not sent yet. */
    buffered = 0;
    chance = 0.5;
    private time = 5000;
    private timers: { readonly at: number; readonly call: () => void }[] = [];

    constructor(options: ServerOptions = {}) {
        this.servers.set("a", new Server(options));
    }

    get server(): Server {
        return this.servers.get("a") as Server;
    }

    /** The connection that is open now. */
    get connection(): Connection {
        return this.link.connection as Connection;
    }

    get link(): Link {
        return this.links.find((link) => link.open) as Link;
    }

    now(): number {
        return this.time;
    }

    random(): number {
        return this.chance;
    }

    after(milliseconds: number, call: () => void): () => void {
        const timer = { at: this.time + milliseconds, call };
        this.timers.push(timer);
        return () => {
            this.timers = this.timers.filter((other) => other !== timer);
        };
    }

    open = (url: URL, listener: Listener): Transport => {
        const link: Link = { address: url.host, listener, connection: undefined, open: false };
        this.links.push(link);
        this.tries.push({ address: url.host, at: this.time });
        this.after(2 * WAY, () => {
            link.connection = this.servers.get(url.host)?.connect();
            link.open = link.connection !== undefined;
            if (link.open) {
                listener.opened();
            } else {
                listener.closed("connection refused");
            }
        });
        const world = this;
        return {
            get buffered() {
                return world.buffered;
            },
            send: (bytes) => {
                this.after(WAY, () => {
                    if (link.open) {
                        link.connection?.data(bytes);
                        this.deliver(link);
                    }
                });
            },
            close: () => {
                this.after(WAY, () => this.cut(link, "closed"));
            },
        };
    };

    /** Sends what the server has to say, in one piece. */
    deliver(link = this.link): void {
        const bytes = joined(link.connection?.take() ?? []);
        if (bytes.length > 0) {
            this.after(WAY, () => {
                if (link.open) {
                    link.listener.data(bytes);
                }
            });
        }
    }

    cut(link = this.link, reason = "cut"): void {
        if (link.open) {
            link.open = false;
            const play = link.connection?.play;
            if (play !== undefined && play.connection === link.connection) {
                play.connection = undefined;
            }
            link.listener.closed(reason);
        }
    }

    async connect(options: ConnectOptions = {}): Promise<Client> {
        return this.during(open("wss://a/play?protocol=photinus", options, this));
    }

    /** Time goes on, and everything that is due happens, each in a turn of its own. */
    async advance(milliseconds: number): Promise<void> {
        const end = this.time + milliseconds;
        await turn();
        for (;;) {
            const next = this.timers.filter(({ at }) => at <= end).sort((one, other) => one.at - other.at)[0];
            if (next === undefined) {
                break;
            }
            this.timers = this.timers.filter((timer) => timer !== next);
            this.time = Math.max(this.time, next.at);
            next.call();
            await turn();
        }
        this.time = end;
    }

    /** Lets a second go by at a time, until this has come to an end. */
    async during<T>(promise: Promise<T>): Promise<T> {
        let settled = false;
        const over = () => {
            settled = true;
        };
        promise.then(over, over);
        for (let round = 0; !settled; round++) {
            if (round === 600) {
                throw new Error("it did not end within ten minutes");
            }
            await this.advance(round < 100 ? WAY : 1000);
        }
        return promise;
    }
}

/** Whatever the last call has promised happens. */
async function turn(): Promise<void> {
    await new Promise((resolve) => setImmediate(resolve));
}
