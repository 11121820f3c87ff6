/** Watches a booting guest: console into the evidence file, text screen now and then, until something is recognised. */
import { type FileHandle, open } from 'node:fs/promises';
import type { Clock } from '@lifeboat/foundation/clock';
import { LifeboatError, messageOf, systemCode } from '@lifeboat/foundation/errors';
import type { VerbContext } from '@lifeboat/foundation/progress';
import { formatDuration, MiB } from '@lifeboat/foundation/units';
import type { RunningMachine } from '@lifeboat/hypervisor/port';
import { PlainText, recognise, type Recognised } from './findings.ts';

/** Console kept for recognition; the file keeps all, up to its own limit. */
const CONSOLE_WINDOW_CHARACTERS = MiB;
/** A guest that prints in a loop must not fill the disk. */
const CONSOLE_FILE_LIMIT_BYTES = 64 * MiB;
const POLL_MS = 250;
/** A hypervisor whose QEMU ends says so in the failed answer first, and in the machine's state a moment later. */
const END_NOTICED_MS = 5000;
const END_POLL_MS = 50;
/** Reading the text screen stops the guest for a moment. */
const SCREEN_POLL_MS = 2000;

export interface BootWatch {
  readonly guest: RunningMachine;
  readonly clock: Clock;
  readonly ready: RegExp;
  readonly consoleLogPath: string;
  readonly startedMs: number;
  readonly timeoutMs: number;
  /** Rejects when what the guest's disks come from, or go to, failed: then nothing was found out about the point. */
  readonly assertServed: () => Promise<void>;
}

/**
 * Errors: those of `assertServed`, instead of a finding that is not `ready`; `disk.full` or `device.write-failed`, instead of
 * any finding, when the console could not be written to its file.
 */
export async function watchBoot(watch: BootWatch, context: VerbContext): Promise<Recognised> {
  const found = await watchUntilFound(watch, context);
  if (found.finding !== 'ready') {
    // The guest may know of it first.
    await watch.clock.sleep(POLL_MS);
    await watch.assertServed();
  }
  return found;
}

async function watchUntilFound(watch: BootWatch, context: VerbContext): Promise<Recognised> {
  const { guest, clock, ready } = watch;
  const log = await ConsoleLog.open(guest, watch.consoleLogPath);
  try {
    let screenAtMs = -Infinity;
    let screen = '';
    for (;;) {
      context.signal.throwIfAborted();
      // Asked before the console is looked at: what a guest printed before it ended must be seen first.
      const state = await guest.state();
      const nowMs = clock.monotonicMs();
      if (state !== 'ended' && nowMs - screenAtMs >= SCREEN_POLL_MS) {
        screenAtMs = nowMs;
        const look = await whileRunning(watch, async () => ({
          screen: await guest.textScreen(),
          readBytes: (await guest.blockStats()).readBytes,
        }));
        screen = look?.screen ?? screen;
        if (look) {
          const detail = log.lastLine() || lastLine(screen);
          context.progress({ phase: 'boot', doneBytes: look.readBytes, detail });
        }
      }
      if (state === 'ended') await log.drained;
      const found = recognise({ console: log.text, screen }, ready);
      // What cannot be shown is not found, good or bad; and a host without space is to be told at once.
      await log.assertWritten();
      if (found) return found;
      if (state === 'ended') {
        return { finding: 'ended', explanation: 'The guest powered off or crashed before it was ready' };
      }
      if (state === 'disk-failed') {
        return {
          finding: 'disk-failed',
          explanation:
            'The guest was stopped because one of its disks could not be read or written; a check of its recovery point says whether that is damaged',
        };
      }
      if (nowMs - watch.startedMs > watch.timeoutMs) {
        const last = log.lastLine() || lastLine(screen);
        const said = last ? `; the last it said was '${last}'` : '; it said nothing on console or screen';
        return {
          finding: 'timeout',
          explanation: `The guest was not ready within ${formatDuration(watch.timeoutMs)}${said}`,
        };
      }
      await clock.sleep(POLL_MS, context.signal);
    }
  } finally {
    await log.close();
  }
}

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

class ConsoleLog {
  text = '';
  /** Resolves when the console has ended; its failure counts as its end, the domain's state is asked separately. */
  readonly drained: Promise<void>;
  readonly #file: FileHandle;
  readonly #path: string;
  readonly #plain = new PlainText();
  #writtenBytes = 0;
  #writing: Promise<void> = Promise.resolve();
  #failure: { readonly error: unknown } | undefined;
  #closed = false;

  static async open(guest: RunningMachine, path: string): Promise<ConsoleLog> {
    try {
      return new ConsoleLog(guest, await open(path, 'w', 0o600), path);
    } catch (error) {
      throw notWritten(path, error);
    }
  }

  private constructor(guest: RunningMachine, file: FileHandle, path: string) {
    this.#file = file;
    this.#path = path;
    this.drained = this.#pump(guest);
    // Awaited only when the guest has ended; until then a failure must not count as unhandled.
    this.drained.catch(() => undefined);
  }

  async #pump(guest: RunningMachine): Promise<void> {
    for await (const bytes of guest.console()) {
      if (this.#closed) return;
      this.text = (this.text + this.#plain.push(bytes)).slice(-CONSOLE_WINDOW_CHARACTERS);
      if (this.#failure || this.#writtenBytes + bytes.length > CONSOLE_FILE_LIMIT_BYTES) continue;
      this.#writtenBytes += bytes.length;
      this.#writing = this.#file.writeFile(bytes).catch((error: unknown) => {
        this.#failure = { error }; // thrown by `assertWritten`
      });
      await this.#writing;
    }
  }

  /** Everything in `text` is in the file, up to its limit. Errors: `disk.full`, `device.write-failed`. */
  async assertWritten(): Promise<void> {
    await this.#writing;
    if (this.#failure) throw notWritten(this.#path, this.#failure.error);
  }

  lastLine(): string {
    return lastLine(this.text.slice(-4096));
  }

  async close(): Promise<void> {
    this.#closed = true;
    await this.#file.close();
  }
}

function notWritten(path: string, cause: unknown): LifeboatError {
  const code = ['ENOSPC', 'EDQUOT'].includes(systemCode(cause) ?? '') ? 'disk.full' : 'device.write-failed';
  const text = `the console of the guest could not be written to ${path} on this host: ${messageOf(cause)}`;
  return new LifeboatError(code, text, { cause, context: { path } });
}

function lastLine(text: string): string {
  const line = text.trimEnd().split('\n').at(-1) ?? '';
  return line.trim().slice(0, 120);
}
