/** Calls about the daemon and its host. */
import type { CallOptions, LibvirtConnection } from './connection.ts';
import type { XdrReader } from './xdr.ts';

const MODEL_BYTES = 32;

export interface NodeInfo {
  readonly model: string;
  readonly memoryKiB: bigint;
  readonly cpus: number;
  readonly mhz: number;
}

/** Version of the daemon's library, `9.0.0`. */
export async function libvirtVersion(connection: LibvirtConnection, options: CallOptions = {}): Promise<string> {
  return versionText(await connection.call({ ...options, procedure: 'connectGetLibVersion', read: readVersion }));
}

/** Version of the hypervisor behind the URI, for QEMU `7.2.22`. */
export async function hypervisorVersion(connection: LibvirtConnection, options: CallOptions = {}): Promise<string> {
  return versionText(await connection.call({ ...options, procedure: 'connectGetVersion', read: readVersion }));
}

export function hostname(connection: LibvirtConnection, options: CallOptions = {}): Promise<string> {
  return connection.call({ ...options, procedure: 'connectGetHostname', read: (reader) => reader.string() });
}

/** What the host can run, as XML. */
export function capabilities(connection: LibvirtConnection, options: CallOptions = {}): Promise<string> {
  return connection.call({ ...options, procedure: 'connectGetCapabilities', read: (reader) => reader.string() });
}

export function nodeInfo(connection: LibvirtConnection, options: CallOptions = {}): Promise<NodeInfo> {
  return connection.call({
    ...options,
    procedure: 'nodeGetInfo',
    read: (reader) => {
      // An array of chars is one XDR word for each.
      const chars = Array.from({ length: MODEL_BYTES }, () => reader.i32());
      const end = chars.indexOf(0);
      const model = String.fromCharCode(...chars.slice(0, end === -1 ? MODEL_BYTES : end).map((char) => char & 0xff));
      const memoryKiB = reader.u64();
      const [cpus, mhz] = [reader.i32(), reader.i32()];
      // NUMA nodes, sockets, cores, threads: described better by the capabilities.
      for (let skipped = 0; skipped < 4; skipped += 1) reader.i32();
      return { model, memoryKiB, cpus, mhz };
    },
  });
}

function readVersion(reader: XdrReader): bigint {
  return reader.u64();
}

/** libvirt packs a version as major * 1,000,000 + minor * 1,000 + release. */
function versionText(packed: bigint): string {
  return `${packed / 1_000_000n}.${(packed / 1000n) % 1000n}.${packed % 1000n}`;
}
