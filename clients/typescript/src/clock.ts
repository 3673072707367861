/** The clocks of both sides (docs/protocol.md, 5.8): how long the way is, and what time it is at the server. */

/** This side's clock in microseconds, which must be above 0, of a reading in milliseconds. */
export function microseconds(now: number): bigint {
    return BigInt(Math.floor(now * 1000)) + 1n;
}

/** What is known of the server's clock. Readings (`now`) are in milliseconds of a clock that never goes back. */
export class ServerClock {
    /** Microseconds there and back, of the last heartbeat that told it. */
    roundTrip: number | undefined;
    /** The last clock that came, to be sent back, and when it came. */
    private said = 0n;
    private came = 0;
    private estimate: number | undefined;
    private rate = 1;

    /** What a heartbeat says of the last clock that came, `held` for so many microseconds. */
    echo(now: number): { readonly echo: bigint; readonly held: bigint } {
        return { echo: this.said, held: microseconds(now) - microseconds(this.came) };
    }

    /**
     * A welcome: the clock without the way that it had, which is known from the first heartbeat on. That of a session
     * that begins `anew` may be another server's, and earlier.
     */
    handleWelcome(clock: bigint, rate: number, anew: boolean, now: number): void {
        if (anew) {
            this.estimate = undefined;
        }
        this.take(clock, rate, false, now);
    }

    /** A heartbeat: `echo` is the clock that this side told, and `held` how long the server had had it. */
    handleHeartbeat(clock: bigint, rate: number, echo: bigint, held: bigint, now: number): void {
        const way = microseconds(now) - echo - held;
        // A server that takes a clock for one that this side has not told yet is wrong about the way alone.
        const measured = echo !== 0n && way >= 0n;
        if (measured) {
            this.roundTrip = Number(way);
        }
        this.take(clock, rate, measured, now);
    }

    /** Microseconds of the server's clock, as far as can be told. */
    at(now: number): number {
        return (this.estimate ?? 0) + (now - this.came) * 1000 * this.rate;
    }

    private take(clock: bigint, rate: number, measured: boolean, now: number): void {
        if (measured || this.estimate === undefined) {
            this.estimate = Number(clock) + (this.roundTrip ?? 0) / 2;
        } else {
            // It may have been on its way for long: it is so late there at least, and what was known stays.
            this.estimate = Math.max(Number(clock), this.at(now));
        }
        this.said = clock;
        this.came = now;
        this.rate = rate / 1_000_000;
    }
}
