/**
 * A guest of 512 bytes: boots in a second or two wherever a BIOS runs, and does what the test asks for.
 *
 *   boot sector at 0:7c00 ─► step ─► step ─► ... ─► hlt for ever
 *
 * Assembled here, as bytes with their meaning. What it says goes to COM1 and to the screen.
 */

export type Step =
  | { readonly do: 'say'; readonly text: string }
  /** Counts timer interrupts (18.2 a second), so that the time of day does not matter. */
  | { readonly do: 'wait'; readonly seconds: number }
  /** Through the BIOS, 32 KiB a request, again and again if asked to. Says TINY-DISK-ERROR and stops at the first failure. */
  | { readonly do: 'read' | 'write'; readonly fromBytes: number; readonly toBytes: number; readonly forever?: boolean }
  | { readonly do: 'power-off' }
  | { readonly do: 'reset' };

export const TINY_READY = 'TINY-READY';
/** Says that it is ready, then idles. */
export const READY_STEPS: readonly Step[] = [{ do: 'say', text: `${TINY_READY}\r\n` }];

const SECTOR_BYTES = 512;
const ORIGIN = 0x7c00;
const READ_SECTORS = 64;
const TICKS_PER_SECOND = 18.2;
const MAX_WAIT_SECONDS = 3000;

export function tinyBootSector(steps: readonly Step[]): Buffer {
  const code = new Assembler();
  code.bytes('fa 31c0 8ed8 8ec0 8ed0 bc007c fb fc', 'cli; ds = es = ss = 0; sp = 7c00; sti; cld');
  code.bytes('8816', 'the boot drive').address('drive');
  steps.forEach((step, index) => assemble(code, step, `step${index}`));
  code.label('halt').bytes('f4', 'hlt').jump('eb', 'halt');
  code.label('say').bytes('ac 84c0', 'al = [si++]; zero?').jump('74', 'said');
  code.bytes('50 b40e bb0700 cd10', 'on the screen');
  code
    .bytes('bafd03', 'dx = line status')
    .label('full')
    .bytes('ec a820', 'room in the transmitter?')
    .jump('74', 'full');
  code.bytes('58 baf803 ee', 'out 3f8').jump('eb', 'say').label('said').bytes('c3', 'ret');
  code.label('failed').bytes('be', 'si = text').address('error').call('say').jump('eb', 'halt');
  code.label('error').text('TINY-DISK-ERROR\r\n');
  code.label('packet').bytes('1000 4000 0000 0010 0000000000000000', 'read 64 sectors to 1000:0; where from follows');
  code.label('drive').bytes('00', '');
  steps.forEach((step, index) => step.do === 'say' && code.label(`step${index}-text`).text(step.text));
  const sector = Buffer.alloc(SECTOR_BYTES);
  const image = code.finish();
  // A partition table would begin at 446; there is none, but some BIOSes look.
  if (image.length > 440) throw new Error(`the tiny guest has ${image.length} bytes; 440 fit`);
  image.copy(sector);
  sector.writeUInt16BE(0x55aa, SECTOR_BYTES - 2);
  return sector;
}

function assemble(code: Assembler, step: Step, name: string): void {
  switch (step.do) {
    case 'say':
      code.bytes('be', 'si = text').address(`${name}-text`).call('say');
      break;
    case 'wait': {
      if (step.seconds > MAX_WAIT_SECONDS) throw new Error(`${step.seconds} s do not fit into a counter of 16 bits`);
      code.bytes('b9', 'cx = ticks').word(Math.ceil(step.seconds * TICKS_PER_SECOND));
      code.label(name).bytes('f4', 'hlt').jump('e2', name);
      break;
    }
    case 'read':
    case 'write':
      code.label(`${name}-again`).bytes('66c706', '[where from] =').address('packet', 8).long(sectors(step.fromBytes));
      code.label(name).bytes('be', 'si = packet').address('packet').bytes('8a16', 'dl =').address('drive');
      code
        .bytes(step.do === 'read' ? 'b442' : 'b80043', 'extended read, or write')
        .bytes('cd13', 'BIOS')
        .jumpFar('0f82', 'failed');
      code.bytes('668106', '[where from] +=').address('packet', 8).long(READ_SECTORS);
      code
        .bytes('66813e', '[where from] below the end?')
        .address('packet', 8)
        .long(sectors(step.toBytes))
        .jump('72', name);
      if (step.forever === true) code.jump('eb', `${name}-again`);
      break;
    case 'reset':
      code.bytes('b0fe e664', 'the keyboard controller pulses the reset line: out 64, fe');
      break;
    case 'power-off':
      code.bytes('ba0406 b80020 ef', 'ACPI, as QEMU has it: out 604, sleep type 0, sleep enable');
      break;
  }
}

function sectors(bytes: number): number {
  if (bytes % (READ_SECTORS * SECTOR_BYTES) !== 0) throw new Error(`${bytes} is not a multiple of 32 KiB`);
  return bytes / SECTOR_BYTES;
}

class Assembler {
  readonly #code: number[] = [];
  readonly #labels = new Map<string, number>();
  readonly #fixups: { at: number; label: string; apply: (target: number) => void }[] = [];

  /** `_meaning` is for the reader. */
  bytes(hex: string, _meaning: string): this {
    this.#code.push(...Buffer.from(hex.replaceAll(' ', ''), 'hex'));
    return this;
  }

  text(text: string): this {
    this.#code.push(...Buffer.from(text, 'latin1'), 0);
    return this;
  }

  word(value: number): this {
    this.#code.push(value & 0xff, (value >> 8) & 0xff);
    return this;
  }

  long(value: number): this {
    return this.word(value & 0xffff).word(value >>> 16);
  }

  label(name: string): this {
    this.#labels.set(name, this.#code.length);
    return this;
  }

  /** 16-bit address of a label. */
  address(label: string, plus = 0): this {
    return this.#later(label, 2, (target) => ORIGIN + target + plus);
  }

  /** Opcode with an 8-bit distance. */
  jump(opcode: string, label: string): this {
    this.bytes(opcode, '');
    const from = this.#code.length + 1;
    return this.#later(label, 1, (target) => {
      const distance = target - from;
      if (distance < -128 || distance > 127) throw new Error(`${label} is ${distance} bytes away`);
      return distance & 0xff;
    });
  }

  jumpFar(opcode: string, label: string): this {
    this.bytes(opcode, '');
    const from = this.#code.length + 2;
    return this.#later(label, 2, (target) => (target - from) & 0xffff);
  }

  call(label: string): this {
    return this.jumpFar('e8', label);
  }

  finish(): Buffer {
    for (const { label, apply } of this.#fixups) {
      const target = this.#labels.get(label);
      if (target === undefined) throw new Error(`no label ${label}`);
      apply(target);
    }
    return Buffer.from(this.#code);
  }

  #later(label: string, width: 1 | 2, value: (target: number) => number): this {
    const at = this.#code.length;
    this.#code.push(...Array.from({ length: width }, () => 0));
    this.#fixups.push({
      at,
      label,
      apply: (target) => {
        const found = value(target);
        this.#code[at] = found & 0xff;
        if (width === 2) this.#code[at + 1] = (found >> 8) & 0xff;
      },
    });
    return this;
  }
}
