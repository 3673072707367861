/** What a client takes from where it runs: a way to the server, a clock, timers, chance. */

import type { Open } from "./transport.js";

export interface Surroundings {
    readonly open: Open;
    /** Milliseconds of a clock that never goes back. */
    now(): number;
    /** From 0 to 1. */
    random(): number;
    /** Calls it after so many milliseconds, unless what is returned has been called. */
    after(milliseconds: number, call: () => void): () => void;
}

/** What browsers and Node have alike. */
export function surroundings(open: Open): Surroundings {
    return {
        open,
        now: () => performance.now(),
        random: () => Math.random(),
        after: (milliseconds, call) => {
            const timer = setTimeout(call, milliseconds);
            return () => clearTimeout(timer);
        },
    };
}
