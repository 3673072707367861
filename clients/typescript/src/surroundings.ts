/** What browsers and Node have alike: a clock, timers, chance. */

import type { Surroundings } from "./client.js";
import type { Open } from "./transport.js";

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
