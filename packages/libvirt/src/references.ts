/** How calls name their objects, and the typed parameters that many replies carry. */
import { malformed, type XdrReader, type XdrWriter } from './xdr.ts';

/** A domain as the daemon names it. `id` is -1 while it is shut off; it changes with every start and is not compared. */
export interface DomainRef {
  readonly name: string;
  /** With dashes, lower case. */
  readonly uuid: string;
  readonly id: number;
}

export interface NetworkRef {
  readonly name: string;
  readonly uuid: string;
}

export interface CheckpointRef {
  readonly name: string;
  readonly domain: DomainRef;
}

const UUID_BYTES = 16;
const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;
const TYPED_PARAMETERS_MAX = 16_384;

export function isUuid(text: string): boolean {
  return UUID.test(text);
}

export function writeUuid(writer: XdrWriter, uuid: string): void {
  const bytes = Buffer.from(uuid.replaceAll('-', ''), 'hex');
  if (!isUuid(uuid) || bytes.length !== UUID_BYTES) throw malformed(`'${uuid}' is not a UUID`);
  writer.fixed(bytes);
}

function readUuid(reader: XdrReader): string {
  const hex = reader.fixed(UUID_BYTES).toString('hex');
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join('-');
}

export function writeDomain(writer: XdrWriter, domain: DomainRef): void {
  writer.string(domain.name);
  writeUuid(writer, domain.uuid);
  writer.i32(domain.id);
}

export function readDomain(reader: XdrReader): DomainRef {
  return { name: reader.string(), uuid: readUuid(reader), id: reader.i32() };
}

export function writeNetwork(writer: XdrWriter, network: NetworkRef): void {
  writer.string(network.name);
  writeUuid(writer, network.uuid);
}

export function readNetwork(reader: XdrReader): NetworkRef {
  return { name: reader.string(), uuid: readUuid(reader) };
}

export function writeCheckpoint(writer: XdrWriter, checkpoint: CheckpointRef): void {
  writer.string(checkpoint.name);
  writeDomain(writer, checkpoint.domain);
}

export function readCheckpoint(reader: XdrReader): CheckpointRef {
  return { name: reader.string(), domain: readDomain(reader) };
}

export type ParameterValue = number | bigint | boolean | string;
/** Named values of mixed types; 64-bit ones are bigint, since nanoseconds pass 2^53 within months. */
export type Parameters = ReadonlyMap<string, ParameterValue>;

export function readParameters(reader: XdrReader): Parameters {
  const entries = reader.array(() => {
    const name = reader.string();
    return [name, readParameterValue(reader)] as const;
  }, TYPED_PARAMETERS_MAX);
  return new Map(entries);
}

function readParameterValue(reader: XdrReader): ParameterValue {
  const type = reader.i32();
  switch (type) {
    case 1:
      return reader.i32();
    case 2:
      return reader.u32();
    case 3:
      return reader.i64();
    case 4:
      return reader.u64();
    case 5:
      return reader.f64();
    case 6:
      return reader.bool();
    case 7:
      return reader.string();
    default:
      throw malformed(`a parameter has the unknown type ${type}`);
  }
}
