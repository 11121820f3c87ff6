/** Calls about domains: find, define, run, measure. `object` in every error message is the domain's name. */
import { nothing, type CallOptions, type LibvirtConnection } from './connection.ts';
import { malformed, type XdrReader } from './xdr.ts';
import { readDomain, readParameters, writeDomain, writeUuid, type DomainRef, type Parameters } from './references.ts';
import type { Procedure } from './procedures.ts';

const DOMAINS_MAX = 16_384;
const MEMORY_STATS_MAX = 1024;

export type DomainState =
  | 'no-state'
  | 'running'
  | 'blocked'
  | 'paused'
  | 'shutting-down'
  | 'shut-off'
  | 'crashed'
  | 'pm-suspended';

const STATES: readonly DomainState[] = [
  'no-state',
  'running',
  'blocked',
  'paused',
  'shutting-down',
  'shut-off',
  'crashed',
  'pm-suspended',
];

function readState(value: number): DomainState {
  const state = STATES[value];
  if (state === undefined) throw malformed(`a domain is in the unknown state ${value}`);
  return state;
}

/** Sums the bits of the flags that are true. */
function bits<F extends string>(
  values: Readonly<Record<F, number>>,
  flags: Readonly<{ [K in NoInfer<F>]?: boolean }>,
): number {
  return (Object.keys(values) as F[]).reduce((sum, name) => (flags[name] ? sum | values[name] : sum), 0);
}

export function listDomains(
  connection: LibvirtConnection,
  options: CallOptions & { active?: boolean; inactive?: boolean } = {},
): Promise<DomainRef[]> {
  const { active = false, inactive = false, ...rest } = options;
  return connection.call({
    ...rest,
    procedure: 'connectListAllDomains',
    write: (writer) => writer.i32(1).u32(bits({ active: 1, inactive: 2 }, { active, inactive })),
    read: (reader) => {
      const domains = reader.array(() => readDomain(reader), DOMAINS_MAX);
      reader.u32();
      return domains;
    },
  });
}

/** Error: `libvirt.no-such-domain`. */
export function domainByName(
  connection: LibvirtConnection,
  name: string,
  options: CallOptions = {},
): Promise<DomainRef> {
  return connection.call({
    ...options,
    procedure: 'domainLookupByName',
    object: name,
    write: (writer) => writer.string(name),
    read: readDomain,
  });
}

/** Error: `libvirt.no-such-domain`. */
export function domainByUuid(
  connection: LibvirtConnection,
  uuid: string,
  options: CallOptions = {},
): Promise<DomainRef> {
  return connection.call({
    ...options,
    procedure: 'domainLookupByUUID',
    object: uuid,
    write: (writer) => writeUuid(writer, uuid),
    read: readDomain,
  });
}

/** The live definition while it runs, else the persistent one; `inactive` asks for the persistent one always. */
export function domainXml(
  connection: LibvirtConnection,
  domain: DomainRef,
  options: CallOptions & { inactive?: boolean } = {},
): Promise<string> {
  const { inactive = false, ...rest } = options;
  return connection.call({
    ...rest,
    procedure: 'domainGetXMLDesc',
    object: domain.name,
    write: (writer) => {
      writeDomain(writer, domain);
      writer.u32(inactive ? 2 : 0);
    },
    read: (reader) => reader.string(),
  });
}

export function domainState(
  connection: LibvirtConnection,
  domain: DomainRef,
  options: CallOptions = {},
): Promise<{ state: DomainState; reason: number }> {
  return connection.call({
    ...options,
    procedure: 'domainGetState',
    object: domain.name,
    write: (writer) => {
      writeDomain(writer, domain);
      writer.u32(0);
    },
    read: (reader) => ({ state: readState(reader.i32()), reason: reader.i32() }),
  });
}

/** False for a transient domain, which is gone once it stops. */
export function isPersistent(
  connection: LibvirtConnection,
  domain: DomainRef,
  options: CallOptions = {},
): Promise<boolean> {
  return connection.call({
    ...options,
    procedure: 'domainIsPersistent',
    object: domain.name,
    write: (writer) => writeDomain(writer, domain),
    read: (reader) => reader.i32() === 1,
  });
}

export interface DomainInfo {
  readonly state: DomainState;
  readonly maxMemoryKiB: bigint;
  readonly memoryKiB: bigint;
  readonly vcpus: number;
  /** CPU time of the whole QEMU process, ns. */
  readonly cpuTimeNs: bigint;
}

export function domainInfo(
  connection: LibvirtConnection,
  domain: DomainRef,
  options: CallOptions = {},
): Promise<DomainInfo> {
  return connection.call({
    ...options,
    procedure: 'domainGetInfo',
    object: domain.name,
    write: (writer) => writeDomain(writer, domain),
    read: (reader) => ({
      state: readState(reader.u32()),
      maxMemoryKiB: reader.u64(),
      memoryKiB: reader.u64(),
      vcpus: reader.u32(),
      cpuTimeNs: reader.u64(),
    }),
  });
}

/** libvirt's tag numbers to values in KiB (rss is 7). */
export function memoryStats(
  connection: LibvirtConnection,
  domain: DomainRef,
  options: CallOptions = {},
): Promise<ReadonlyMap<number, bigint>> {
  return connection.call({
    ...options,
    procedure: 'domainMemoryStats',
    object: domain.name,
    write: (writer) => {
      writeDomain(writer, domain);
      writer.u32(MEMORY_STATS_MAX).u32(0);
    },
    read: (reader) => new Map(reader.array(() => [reader.i32(), reader.u64()] as const, MEMORY_STATS_MAX)),
  });
}

export interface BlockStats {
  readonly readRequests: bigint;
  readonly readBytes: bigint;
  readonly writeRequests: bigint;
  readonly writtenBytes: bigint;
}

/** What the guest did to one disk (`target`, such as `sda`) since it was started. */
export function blockStats(
  connection: LibvirtConnection,
  domain: DomainRef,
  target: string,
  options: CallOptions = {},
): Promise<BlockStats> {
  return connection.call({
    ...options,
    procedure: 'domainBlockStats',
    object: `${domain.name} ${target}`,
    write: (writer) => {
      writeDomain(writer, domain);
      writer.string(target);
    },
    read: (reader) => {
      const [readRequests, readBytes] = [reader.i64(), reader.i64()];
      const [writeRequests, writtenBytes] = [reader.i64(), reader.i64()];
      reader.i64(); // errors: not counted by QEMU
      return { readRequests, readBytes, writeRequests, writtenBytes };
    },
  });
}

export interface BlockInfo {
  readonly capacityBytes: bigint;
  readonly allocatedBytes: bigint;
  readonly physicalBytes: bigint;
}

/** `disk` is a target (`sda`) or the path of the image. */
export function blockInfo(
  connection: LibvirtConnection,
  domain: DomainRef,
  disk: string,
  options: CallOptions = {},
): Promise<BlockInfo> {
  return connection.call({
    ...options,
    procedure: 'domainGetBlockInfo',
    object: `${domain.name} ${disk}`,
    write: (writer) => {
      writeDomain(writer, domain);
      writer.string(disk).u32(0);
    },
    read: (reader) => {
      const [allocatedBytes, capacityBytes, physicalBytes] = [reader.u64(), reader.u64(), reader.u64()];
      return { capacityBytes, allocatedBytes, physicalBytes };
    },
  });
}

export interface DomainStats {
  readonly domain: DomainRef;
  /** Keys such as `cpu.time`, `block.0.rd.bytes`. */
  readonly parameters: Parameters;
}

const STATS = { state: 1, cpu: 2, balloon: 4, vcpu: 8, network: 16, block: 32 } as const;

/** Statistics of many domains in one call: of all domains when none is named, of all groups when none is chosen. */
export function allDomainStats(
  connection: LibvirtConnection,
  options: CallOptions & { domains?: readonly DomainRef[]; groups?: readonly (keyof typeof STATS)[] } = {},
): Promise<DomainStats[]> {
  const { domains = [], groups = [], ...rest } = options;
  const chosen = groups.reduce((sum, group) => sum | STATS[group], 0);
  return connection.call({
    ...rest,
    procedure: 'connectGetAllDomainStats',
    write: (writer) =>
      writer
        .array(domains, (domain) => writeDomain(writer, domain))
        .u32(chosen)
        .u32(0),
    read: (reader) => reader.array(() => ({ domain: readDomain(reader), parameters: readParameters(reader) })),
  });
}

/** Defines or redefines a persistent domain. Error: `libvirt.invalid-definition`. */
export function defineDomain(
  connection: LibvirtConnection,
  xml: string,
  options: CallOptions = {},
): Promise<DomainRef> {
  return connection.call({
    ...options,
    procedure: 'domainDefineXML',
    write: (writer) => writer.string(xml),
    read: readDomain,
  });
}

const UNDEFINE = { managedSave: 1, snapshotsMetadata: 2, nvram: 4, keepNvram: 8, checkpointsMetadata: 16 } as const;

export function undefineDomain(
  connection: LibvirtConnection,
  domain: DomainRef,
  options: CallOptions & { [F in keyof typeof UNDEFINE]?: boolean } = {},
): Promise<void> {
  return domainCall(connection, 'domainUndefineFlags', domain, options, bits(UNDEFINE, options));
}

const START = { paused: 1, autoDestroy: 2 } as const;
type StartFlags = { [F in keyof typeof START]?: boolean };

/** Starts a transient domain; with `autoDestroy` it ends with this connection. */
export function startTransientDomain(
  connection: LibvirtConnection,
  xml: string,
  options: CallOptions & StartFlags = {},
): Promise<DomainRef> {
  return connection.call({
    ...callOptions(options),
    procedure: 'domainCreateXML',
    write: (writer) => writer.string(xml).u32(bits(START, options)),
    read: readDomain,
  });
}

/** Starts a defined domain; the answer carries its new id. */
export function startDomain(
  connection: LibvirtConnection,
  domain: DomainRef,
  options: CallOptions & StartFlags = {},
): Promise<DomainRef> {
  return connection.call({
    ...callOptions(options),
    procedure: 'domainCreateWithFlags',
    object: domain.name,
    write: (writer) => {
      writeDomain(writer, domain);
      writer.u32(bits(START, options));
    },
    read: readDomain,
  });
}

export function suspendDomain(
  connection: LibvirtConnection,
  domain: DomainRef,
  options: CallOptions = {},
): Promise<void> {
  return domainCall(connection, 'domainSuspend', domain, options);
}

export function resumeDomain(
  connection: LibvirtConnection,
  domain: DomainRef,
  options: CallOptions = {},
): Promise<void> {
  return domainCall(connection, 'domainResume', domain, options);
}

/** Asks the guest (ACPI); resolves once it was asked. */
export function shutdownDomain(
  connection: LibvirtConnection,
  domain: DomainRef,
  options: CallOptions = {},
): Promise<void> {
  return domainCall(connection, 'domainShutdown', domain, options);
}

/** Ends it at once, like the power cord. Error: `libvirt.wrong-state` when it does not run. */
export function destroyDomain(
  connection: LibvirtConnection,
  domain: DomainRef,
  options: CallOptions = {},
): Promise<void> {
  return domainCall(connection, 'domainDestroyFlags', domain, options, 0);
}

export function resetDomain(
  connection: LibvirtConnection,
  domain: DomainRef,
  options: CallOptions = {},
): Promise<void> {
  return domainCall(connection, 'domainReset', domain, options, 0);
}

const METADATA_ELEMENT = 2;
const AFFECT = { live: 1, config: 2 } as const;
type Affect = { [F in keyof typeof AFFECT]?: boolean };

/** Sets, replaces or (`xml` undefined) removes the one metadata element of a namespace URI. */
export async function setDomainMetadata(
  connection: LibvirtConnection,
  domain: DomainRef,
  metadata: { uri: string; prefix: string; xml: string | undefined },
  options: CallOptions & Affect = {},
): Promise<void> {
  await connection.call({
    ...callOptions(options),
    procedure: 'domainSetMetadata',
    object: domain.name,
    write: (writer) => {
      writeDomain(writer, domain);
      writer.i32(METADATA_ELEMENT);
      for (const text of [metadata.xml, metadata.prefix, metadata.uri]) {
        writer.optional(text, (value) => writer.string(value));
      }
      writer.u32(bits(AFFECT, options));
    },
    read: nothing,
  });
}

/** The element of a namespace URI, without the prefix. Error: `isLibvirtError(error, 'noMetadata')` when there is none. */
export function domainMetadata(
  connection: LibvirtConnection,
  domain: DomainRef,
  uri: string,
  options: CallOptions & Affect = {},
): Promise<string> {
  return connection.call({
    ...callOptions(options),
    procedure: 'domainGetMetadata',
    object: domain.name,
    write: (writer) => {
      writeDomain(writer, domain);
      writer.i32(METADATA_ELEMENT).optional(uri, (value) => writer.string(value));
      writer.u32(bits(AFFECT, options));
    },
    read: (reader) => reader.string(),
  });
}

function callOptions({ timeoutMs, signal }: CallOptions): CallOptions {
  return { ...(timeoutMs === undefined ? {} : { timeoutMs }), ...(signal ? { signal } : {}) };
}

async function domainCall(
  connection: LibvirtConnection,
  procedure: Procedure,
  domain: DomainRef,
  options: CallOptions,
  flags?: number,
): Promise<void> {
  await connection.call<XdrReader | undefined>({
    ...callOptions(options),
    procedure,
    object: domain.name,
    write: (writer) => {
      writeDomain(writer, domain);
      if (flags !== undefined) writer.u32(flags);
    },
    read: nothing,
  });
}
