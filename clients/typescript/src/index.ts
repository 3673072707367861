/**
 * The client of Photinus for browsers.
 *
 *     const client = await connect("wss://example.org/play");
 *     const welcome = await client.request<Welcome>("login", { token });
 *     for await (const said of client.subscribe<Said>("said")) { … }
 */

import { type Client, open } from "./client.js";
import type { ConnectOptions } from "./options.js";
import { surroundings } from "./surroundings.js";
import { webSockets } from "./transport.js";

export * from "./api.js";

/**
 * Connects to the listener at `wss://host/path` or `ws://…`, and shakes hands; from then on the client connects again by
 * itself. ConnectionFailed if that cannot be, UsageError if the URL is none, or the signal's reason.
 */
export async function connect(url: string, options: ConnectOptions = {}): Promise<Client> {
    const make = options.webSocket ?? ((address) => new WebSocket(address));
    return open(url, options, surroundings(webSockets(make)));
}
