/** A kernel module file that depmod and modprobe take for real: ELF with .modinfo, exported and needed symbols, no code. */
export interface FakeModule {
  /** Relative to /lib/modules/<version>. */
  readonly path: string;
  readonly aliases?: readonly string[];
  /** Symbols other modules may use. */
  readonly exports?: readonly string[];
  readonly uses?: readonly string[];
  /** As in MODULE_SOFTDEP: `pre: a b post: c`. */
  readonly softdep?: string;
  /** So that two modules differ in content, and a file has a size to see. */
  readonly payload?: Uint8Array;
}

interface Section {
  readonly name: string;
  readonly type: number;
  readonly content: Buffer;
  readonly link?: number;
  readonly info?: number;
  readonly entryBytes?: number;
}

const SECTION = { progbits: 1, symtab: 2, strtab: 3 } as const;
const HEADER_BYTES = 64;
const SYMBOL_BYTES = 24;

/** ELF64 little-endian x86-64 relocatable file. */
export function kernelModule(module: FakeModule): Buffer {
  const modinfo = [
    'license=GPL',
    ...(module.aliases ?? []).map((alias) => `alias=${alias}`),
    ...(module.softdep === undefined ? [] : [`softdep=${module.softdep}`]),
  ];
  const strings = new StringTable();
  const symbols = Buffer.concat([
    Buffer.alloc(SYMBOL_BYTES),
    ...(module.uses ?? []).map((name) => undefinedSymbol(strings.add(name))),
  ]);
  return elf([
    { name: '.modinfo', type: SECTION.progbits, content: nulSeparated(modinfo) },
    { name: '__ksymtab_strings', type: SECTION.progbits, content: nulSeparated(module.exports ?? []) },
    { name: '.text', type: SECTION.progbits, content: Buffer.from(module.payload ?? []) },
    // The string table is the section after this one.
    { name: '.symtab', type: SECTION.symtab, content: symbols, link: 5, info: 1, entryBytes: SYMBOL_BYTES },
    { name: '.strtab', type: SECTION.strtab, content: strings.bytes() },
  ]);
}

function elf(given: readonly Section[]): Buffer {
  const names = new StringTable();
  const sections = [...given, { name: '.shstrtab', type: SECTION.strtab, content: Buffer.alloc(0) }];
  const nameOffsets = sections.map((section) => names.add(section.name));
  const contents = sections.map((section, index) => (index === sections.length - 1 ? names.bytes() : section.content));
  let at = HEADER_BYTES;
  const placed = contents.map((content) => {
    const offset = at;
    at = align8(at + content.length);
    return offset;
  });
  const headers = sections.map((section, index) => {
    const header = Buffer.alloc(64);
    header.writeUInt32LE(nameOffsets[index] as number, 0);
    header.writeUInt32LE(section.type, 4);
    header.writeBigUInt64LE(BigInt(placed[index] as number), 24);
    header.writeBigUInt64LE(BigInt((contents[index] as Buffer).length), 32);
    header.writeUInt32LE(section.link ?? 0, 40);
    header.writeUInt32LE(section.info ?? 0, 44);
    header.writeBigUInt64LE(1n, 48);
    header.writeBigUInt64LE(BigInt(section.entryBytes ?? 0), 56);
    return header;
  });
  const file = Buffer.alloc(HEADER_BYTES);
  file.write('\x7fELF\x02\x01\x01', 'latin1');
  file.writeUInt16LE(1, 16); // relocatable
  file.writeUInt16LE(62, 18); // x86-64
  file.writeUInt32LE(1, 20);
  file.writeBigUInt64LE(BigInt(at), 40);
  file.writeUInt16LE(HEADER_BYTES, 52);
  file.writeUInt16LE(64, 58);
  file.writeUInt16LE(sections.length + 1, 60);
  file.writeUInt16LE(sections.length, 62);
  const padded = contents.map((content) =>
    Buffer.concat([content, Buffer.alloc(align8(content.length) - content.length)]),
  );
  return Buffer.concat([file, ...padded, Buffer.alloc(64), ...headers]);
}

function undefinedSymbol(nameOffset: number): Buffer {
  const symbol = Buffer.alloc(SYMBOL_BYTES);
  symbol.writeUInt32LE(nameOffset, 0);
  symbol.writeUInt8(0x10, 4); // global, no type
  return symbol;
}

class StringTable {
  readonly #parts: string[] = [''];
  #length = 1;

  add(text: string): number {
    const at = this.#length;
    this.#parts.push(text);
    this.#length += text.length + 1;
    return at;
  }

  bytes(): Buffer {
    return nulSeparated(this.#parts);
  }
}

function nulSeparated(texts: readonly string[]): Buffer {
  return Buffer.from(texts.map((text) => `${text}\0`).join(''), 'latin1');
}

function align8(value: number): number {
  return Math.ceil(value / 8) * 8;
}
