/**
 * What a guest's output says about its boot. Pure: text in, finding out; the boot test feeds it the serial console and
 * the text screen again and again until something is found.
 */
import type { BootFinding } from '../verbs.ts';

export interface Observation {
  /** Everything the serial console printed so far. */
  readonly console: string;
  /** The VGA text screen, if the guest is in text mode. */
  readonly screen: string;
}

export interface Recognised {
  readonly finding: BootFinding;
  readonly explanation: string;
  /** It counts only if nothing more was printed for so long: some guests go on from here by themselves. */
  readonly unlessMoreWithinMs?: number;
}

interface Sign {
  readonly finding: BootFinding;
  readonly pattern: RegExp;
  readonly explanation: string;
  readonly unlessMoreWithinMs?: number;
}

/** A TPM or a key server answers within seconds, under software emulation, too. */
const UNLOCKED_WITHIN_MS = 30_000;

// Each pattern is the text of a state the guest does not leave by itself.
const SIGNS: readonly Sign[] = [
  {
    finding: 'kernel-panic',
    pattern: /Kernel panic - not syncing: ?([^\r\n]*)/,
    explanation: 'The kernel panicked',
  },
  {
    finding: 'initramfs-shell',
    pattern: /^\(initramfs\)|ALERT!\s+(\S+ does not exist)\.\s+Dropping to a shell|^dracut:\/#/m,
    explanation:
      'The initramfs did not find the root filesystem and stopped in its shell: a driver for the boot disk is missing there',
  },
  {
    finding: 'grub-rescue',
    pattern: /^grub rescue>/m,
    explanation: 'GRUB stopped in its rescue shell: it does not find its modules on the disk',
  },
  {
    finding: 'grub-rescue',
    pattern: /^grub>/m,
    explanation: 'GRUB stopped at its prompt: it does not find its configuration',
  },
  {
    finding: 'blue-screen',
    pattern: /A problem has been detected and Windows has been shut down|\*\*\* STOP: (0x[0-9A-Fa-f]{8})/,
    explanation: 'Windows stopped with a blue screen',
  },
  {
    finding: 'passphrase-prompt',
    pattern:
      /(?:Please (?:enter passphrase for|unlock) disk|Enter passphrase for) ([^\r\n]*?)(?:\s*\(|:|$)|^Enter LUKS passphrase/m,
    explanation:
      'The guest waits for the passphrase of an encrypted disk, which nobody types here: start it once by hand, or let a key file or a TPM unlock it',
    unlessMoreWithinMs: UNLOCKED_WITHIN_MS,
  },
  {
    finding: 'no-boot-device',
    pattern: /No bootable device|Boot failed: not a bootable disk|BdsDxe: failed to load Boot/,
    explanation: 'The firmware found no disk to boot from',
  },
];

/**
 * The ready pattern wins over every sign: a panic text in an old log line must not turn a started guest red. `ready` is absent where something
 * else than the console says that the guest is ready.
 */
export function recognise(observation: Observation, ready?: RegExp): Recognised | undefined {
  const found = ready?.exec(observation.console);
  if (found) return { finding: 'ready', explanation: `The console printed '${found[0].trim()}'` };
  for (const { pattern, explanation, ...sign } of SIGNS) {
    const seen = pattern.exec(observation.console) ?? pattern.exec(observation.screen);
    if (seen) return { ...sign, explanation: seen[1] ? `${explanation} (${seen[1].trim()})` : explanation };
  }
  return undefined;
}

// Cursor movements, colours, character sets, as terminals of the VT100 family take them.
// oxlint-disable-next-line no-control-regex -- control characters are what is removed
const ESCAPE = /\u001b(?:\[[0-9;?]*[ -/]*[@-~]|[()][A-Z0-9]|[=>78cM])/g;
// oxlint-disable-next-line no-control-regex -- control characters are what is removed
const CONTROL = /[\u0000-\u0008\u000b-\u000c\u000e-\u001f]/g;
/** Longer than any sequence of ESCAPE that a console was seen to send. */
const ESCAPE_LIMIT = 32;

/** Console bytes as text, without escape sequences and control characters; a sequence may be cut by the end of a chunk. */
export class PlainText {
  #pending = '';

  /** The text of the next chunk. */
  push(bytes: Uint8Array): string {
    const raw = this.#pending + Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('latin1');
    const escape = raw.lastIndexOf('\u001b');
    const cut = escape >= 0 && escape > raw.length - ESCAPE_LIMIT && raw.slice(escape).search(ESCAPE) < 0;
    // A lone \r at the end may be the first half of a line end.
    const end = cut ? escape : raw.endsWith('\r') ? raw.length - 1 : raw.length;
    this.#pending = raw.slice(end);
    return raw
      .slice(0, end)
      .replace(ESCAPE, '')
      .replace(/\r+\n?/g, '\n')
      .replace(CONTROL, '');
  }
}
