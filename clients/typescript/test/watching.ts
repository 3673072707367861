/** What happens to a client. */

import type { Client } from "../src/client.js";
import type { ClientEvents } from "../src/options.js";

const NAMES = ["wait", "reconnecting", "resumed", "gap", "redirected", "renewed", "closed"] as const;

/** The names of what happens to a client. */
export function watched(client: Client): (keyof ClientEvents)[] {
    const happened: (keyof ClientEvents)[] = [];
    for (const name of NAMES) {
        client.when(name, () => happened.push(name));
    }
    return happened;
}
