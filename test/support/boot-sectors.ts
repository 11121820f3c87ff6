/** Guests of one sector, for tests that need a machine which runs and not a system on it. */
const SECTOR_BYTES = 512;
const LOAD_ADDRESS = 0x7c00;
const IMAGE_BYTES = 1024 * 1024;

type Code = readonly (readonly [hex: string, meaning: string])[];

function sector(code: Code, data = ''): Buffer {
  const bytes = Buffer.alloc(SECTOR_BYTES);
  const program = Buffer.from(code.map(([hex]) => hex.replaceAll(' ', '')).join(''), 'hex');
  const text = Buffer.from(`${data}\0`, 'latin1');
  if (program.length + text.length > SECTOR_BYTES - 2) throw new Error('a boot sector holds 510 bytes');
  program.copy(bytes);
  text.copy(bytes, program.length);
  bytes.writeUInt16BE(0x55aa, SECTOR_BYTES - 2);
  return bytes;
}

/** Says `greeting` on the first serial line, then repeats what it hears there. */
export function echoSector(greeting: string): Buffer {
  const code = (textAddress: number): Code => [
    ['fa 31c0 8ed8', 'cli; ds = 0'],
    [`be ${littleEndian(textAddress)}`, 'si = greeting'],
    ['ba f803', 'dx = 3f8'],
    ['ac 08c0 7403 ee ebf8', 'say each character up to the zero'],
    ['ba fd03 ec a801 74fb', 'wait until there is one to read'],
    ['ba f803 ec ee ebf1', 'say it, and wait again'],
  ];
  const length = sectorLength(code(0));
  return sector(code(LOAD_ADDRESS + length), greeting);
}

/** Reads its second sector over and over. */
export function readingSector(): Buffer {
  return sector([
    ['31c0 8ed8 8ec0', 'ds = es = 0'],
    ['b80102 b90200 ba8000 bb007e cd13', 'read one sector to 7e00'],
    ['ebf0', 'again'],
  ]);
}

/** A disk that holds only this sector. */
export function sectorImage(bootSector: Buffer): Buffer {
  return Buffer.concat([bootSector, Buffer.alloc(IMAGE_BYTES - SECTOR_BYTES)]);
}

function sectorLength(code: Code): number {
  return code.map(([hex]) => hex.replaceAll(' ', '')).join('').length / 2;
}

function littleEndian(value: number): string {
  const bytes = Buffer.alloc(2);
  bytes.writeUInt16LE(value);
  return bytes.toString('hex');
}
