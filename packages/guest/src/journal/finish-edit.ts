/** From a complete journal to disks that hold the edit, or what they held before: nothing in between stays. */
import { applyJournal, revertJournal, type ApplyOptions } from './apply-journal.ts';
import { discardReverted, readJournal, type Journal } from './journal-file.ts';

/** An abort must not leave a disk that is half edited; any other failure leaves the journal, from which a retry goes on. */
export async function applyOrTakeBack(options: ApplyOptions): Promise<Journal> {
  try {
    return await applyJournal(options);
  } catch (error) {
    if (options.signal.aborted) await takeBack(options);
    throw error;
  }
}

/** An attempt that was aborted in mid-edit took its edit back, or was killed while it did. */
export async function forgetTakenBack(options: ApplyOptions): Promise<void> {
  const state = (await readJournal(options.directory))?.state;
  if (state !== 'reverting' && state !== 'reverted') return;
  await takeBack(options);
  await discardReverted(options.directory);
}

/** To the end, also after an abort. */
async function takeBack(options: ApplyOptions): Promise<void> {
  await revertJournal({ ...options, signal: new AbortController().signal });
}
