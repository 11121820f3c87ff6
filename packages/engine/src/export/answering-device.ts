/**
 * A disk of a point as a guest may run from it. What the guest does tells something about the point only if every read was
 * answered, so one that cannot be ends the export, and with it the test (boot-test.ts); the guest never sees it as an error.
 *
 *   read ─► answered, or damaged: for the guest, as after a restore
 *        └► the store is away, or late ─► `giveUp`
 */
import type { BlockDevice } from '@lifeboat/foundation/block-device';
import type { Clock } from '@lifeboat/foundation/clock';
import { hasCode, LifeboatError } from '@lifeboat/foundation/errors';
import { formatDuration } from '@lifeboat/foundation/units';

/** Guests give a request to a SATA or SCSI disk up after 30 s; seen with AHCI on Linux. */
export const ANSWER_LIMIT_MS = 20_000;

/** What the point itself lacks: it would be missing after a restore, too. */
const DAMAGE = [
  'repository.chunk-damaged',
  'repository.map-damaged',
  'repository.object-missing',
  'repository.object-damaged',
  'repository.object-unreadable',
] as const;

/** `giveUp` is called with the reason before a read fails for want of the store, and when one is late; it may not return. */
export function answeringDevice(
  device: BlockDevice,
  { clock, giveUp }: { readonly clock: Clock; readonly giveUp: (reason: unknown) => void },
): BlockDevice {
  const answered = async <T>(signal: AbortSignal | undefined, ask: () => Promise<T>): Promise<T> => {
    const over = new AbortController();
    const late = async (): Promise<void> => {
      await clock.sleep(ANSWER_LIMIT_MS, over.signal);
      giveUp(
        new LifeboatError(
          'repository.store-unreachable',
          `a read was not answered within ${formatDuration(ANSWER_LIMIT_MS)}, and a guest waits little longer`,
        ),
      );
    };
    late().catch(() => {}); // answered in time: the sleep was aborted
    try {
      return await ask();
    } catch (error) {
      if (signal?.aborted !== true && !hasCode(error, ...DAMAGE)) giveUp(error);
      throw error;
    } finally {
      over.abort();
    }
  };
  return {
    sizeBytes: device.sizeBytes,
    read: (offsetBytes, target, options) => answered(options?.signal, () => device.read(offsetBytes, target, options)),
    extents: (range, options) => answered(options?.signal, () => device.extents(range, options)),
    close: () => device.close(),
  };
}
