import type { Clock } from '@lifeboat/foundation/clock';
import type { RunningMachine } from '@lifeboat/hypervisor/port';

/** A hypervisor whose QEMU ends says so in the failed answer first, and in the machine's state a moment later. */
const END_NOTICED_MS = 5000;
const END_POLL_MS = 50;

/** A question to a guest that may end while it is asked: undefined if it did. */
export async function whileRunning<T>(
  { guest, clock }: { readonly guest: RunningMachine; readonly clock: Clock },
  ask: () => Promise<T>,
): Promise<T | undefined> {
  try {
    return await ask();
  } catch (error) {
    const untilMs = clock.monotonicMs() + END_NOTICED_MS;
    while ((await guest.state()) !== 'ended') {
      if (clock.monotonicMs() > untilMs) throw error;
      await clock.sleep(END_POLL_MS);
    }
    return undefined;
  }
}
