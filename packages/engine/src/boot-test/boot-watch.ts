/**
 * Watches a booting guest: console into the evidence file, the screen now and then, its resets and its network, until something is recognised.
 *
 *   what it shows (console, text, picture, resets)  ─► states it does not leave by itself
 *   what it was asked for (pattern, agent, lease, settled screen)  ─► ready; on the console that wins over every sign
 */
import { type FileHandle, open } from 'node:fs/promises';
import type { Clock } from '@lifeboat/foundation/clock';
import { LifeboatError, messageOf, systemCode } from '@lifeboat/foundation/errors';
import type { VerbContext } from '@lifeboat/foundation/progress';
import { formatDuration, MiB } from '@lifeboat/foundation/units';
import type { RunningMachine } from '@lifeboat/hypervisor/port';
import { isBlueScreen } from '@lifeboat/hypervisor/screen/blue-screen';
import type { ReadySign } from '../verbs.ts';
import type { Film } from './film.ts';
import { PlainText, recognise, type Recognised } from './findings.ts';
import { captured } from './isolated-network.ts';
import { answersNow } from './probes.ts';
import { whileRunning } from './while-running.ts';

/** Console kept for recognition; the file keeps all, up to its own limit. */
const CONSOLE_WINDOW_CHARACTERS = MiB;
/** A guest that prints in a loop must not fill the disk. */
const CONSOLE_FILE_LIMIT_BYTES = 64 * MiB;
const POLL_MS = 250;
/** Reading the text screen stops the guest for a moment. */
const SCREEN_POLL_MS = 2000;
/** A first start may be one of several on purpose: labels are written, updates finished. */
const RESETS_OF_A_LOOP = 3;
/** Longer than a quiet kernel was seen to show one picture under software emulation. */
const SETTLED_MS = 30_000;

export interface BootWatch {
  readonly guest: RunningMachine;
  readonly clock: Clock;
  readonly readyBy: ReadySign;
  /** For `console`. */
  readonly ready: RegExp;
  readonly film: Film;
  readonly capturePath: string;
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
  const { guest, clock, film } = watch;
  const log = await ConsoleLog.open(guest, watch.consoleLogPath, clock);
  try {
    let lookedAtMs = -Infinity;
    let screen = '';
    let isBlue = false;
    for (;;) {
      context.signal.throwIfAborted();
      // Asked before the console is looked at: what a guest printed before it ended must be seen first.
      const state = await guest.state();
      const nowMs = clock.monotonicMs();
      const elapsedMs = nowMs - watch.startedMs;
      const isTimeToLook = state !== 'ended' && nowMs - lookedAtMs >= SCREEN_POLL_MS;
      if (isTimeToLook) {
        lookedAtMs = nowMs;
        const look = await whileRunning(watch, async () => ({
          screen: await guest.look(),
          readBytes: (await guest.blockStats()).readBytes,
        }));
        if (look) {
          await film.show(look.screen.image, elapsedMs);
          screen = look.screen.text;
          // Twice the same: a picture that is being drawn is none yet.
          isBlue = film.settledMs(elapsedMs) > 0 && isBlueScreen(look.screen.image);
          const detail = log.lastLine() || lastLine(screen);
          context.progress({ phase: 'boot', doneBytes: look.readBytes, detail });
        }
      }
      if (state === 'ended') await log.drained;
      const { readyBy } = watch;
      const found =
        recognise({ console: log.text, screen }, readyBy === 'console' ? watch.ready : undefined) ??
        fromPictures(guest, isBlue) ??
        (isTimeToLook ? await askForReady(watch, { elapsedMs, signal: context.signal }) : undefined);
      // What cannot be shown is not found, good or bad; and a host without space is to be told at once.
      await log.assertWritten();
      if (found && log.quietMs() >= (found.unlessMoreWithinMs ?? 0)) return found;
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
      if (elapsedMs > watch.timeoutMs) return found ?? outOfTime(watch, log.lastLine() || lastLine(screen));
      await clock.sleep(POLL_MS, context.signal);
    }
  } finally {
    await log.close();
  }
}

function fromPictures(guest: RunningMachine, isBlue: boolean): Recognised | undefined {
  if (isBlue) {
    return {
      finding: 'blue-screen',
      explanation: 'Windows stopped with a blue screen; the picture in the evidence names the stop code',
    };
  }
  const resets = guest.resets();
  if (resets < RESETS_OF_A_LOOP) return undefined;
  return {
    finding: 'reboot-loop',
    explanation: `The guest was reset ${resets} times before it was ready: it starts again and again`,
  };
}

/** Signs of being ready that must be asked for. */
async function askForReady(
  { readyBy, guest, film, capturePath }: BootWatch,
  { elapsedMs, signal }: { elapsedMs: number; signal: AbortSignal },
): Promise<Recognised | undefined> {
  switch (readyBy) {
    case 'agent': {
      const answers = await answersNow(guest, signal);
      return answers ? { finding: 'ready', explanation: 'Its guest agent answers' } : undefined;
    }
    case 'dhcp': {
      const { lease } = await captured(capturePath);
      return lease === undefined ? undefined : { finding: 'ready', explanation: `It took the address ${lease}` };
    }
    case 'screen': {
      if (!film.showsSomething() || film.settledMs(elapsedMs) < SETTLED_MS) return undefined;
      const explanation = `Its screen shows something, and has not changed for ${formatDuration(SETTLED_MS)}`;
      return { finding: 'ready', explanation };
    }
    default:
      return undefined;
  }
}

function outOfTime({ timeoutMs, film }: BootWatch, last: string): Recognised {
  const notReady = `The guest was not ready within ${formatDuration(timeoutMs)}`;
  if (last) return { finding: 'timeout', explanation: `${notReady}; the last it said was '${last}'` };
  if (film.showsSomething()) {
    return { finding: 'timeout', explanation: `${notReady}; it said nothing, and its screen is in the evidence` };
  }
  return { finding: 'nothing-shown', explanation: `${notReady}; it said nothing on console or screen` };
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
  readonly #clock: Clock;
  #printedAtMs: number;

  static async open(guest: RunningMachine, path: string, clock: Clock): Promise<ConsoleLog> {
    try {
      return new ConsoleLog(guest, { file: await open(path, 'w', 0o600), path, clock });
    } catch (error) {
      throw notWritten(path, error);
    }
  }

  private constructor(guest: RunningMachine, to: { file: FileHandle; path: string; clock: Clock }) {
    this.#file = to.file;
    this.#path = to.path;
    this.#clock = to.clock;
    this.#printedAtMs = to.clock.monotonicMs();
    this.drained = this.#pump(guest);
    // Awaited only when the guest has ended; until then a failure must not count as unhandled.
    this.drained.catch(() => undefined);
  }

  async #pump(guest: RunningMachine): Promise<void> {
    for await (const bytes of guest.console()) {
      if (this.#closed) return;
      this.#printedAtMs = this.#clock.monotonicMs();
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

  /** How long nothing was printed. */
  quietMs(): number {
    return this.#clock.monotonicMs() - this.#printedAtMs;
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
