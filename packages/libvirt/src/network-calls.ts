/** Calls about virtual networks. */
import { nothing, type CallOptions, type LibvirtConnection } from './connection.ts';
import type { Procedure } from './procedures.ts';
import { readNetwork, writeNetwork, type NetworkRef } from './references.ts';
import type { XdrReader } from './xdr.ts';

const NETWORKS_MAX = 16_384;
const LEASES_MAX = 65_536;

export function listNetworks(connection: LibvirtConnection, options: CallOptions = {}): Promise<NetworkRef[]> {
  return connection.call({
    ...options,
    procedure: 'connectListAllNetworks',
    write: (writer) => writer.i32(1).u32(0),
    read: (reader) => {
      const networks = reader.array(() => readNetwork(reader), NETWORKS_MAX);
      reader.u32();
      return networks;
    },
  });
}

/** Error: `libvirt.no-such-network`. */
export function networkByName(
  connection: LibvirtConnection,
  name: string,
  options: CallOptions = {},
): Promise<NetworkRef> {
  return connection.call({
    ...options,
    procedure: 'networkLookupByName',
    object: name,
    write: (writer) => writer.string(name),
    read: readNetwork,
  });
}

export function networkXml(
  connection: LibvirtConnection,
  network: NetworkRef,
  options: CallOptions = {},
): Promise<string> {
  return connection.call({
    ...options,
    procedure: 'networkGetXMLDesc',
    object: network.name,
    write: (writer) => {
      writeNetwork(writer, network);
      writer.u32(0);
    },
    read: (reader) => reader.string(),
  });
}

/** Defines without starting. */
export function defineNetwork(
  connection: LibvirtConnection,
  xml: string,
  options: CallOptions = {},
): Promise<NetworkRef> {
  return connection.call({
    ...options,
    procedure: 'networkDefineXML',
    write: (writer) => writer.string(xml),
    read: readNetwork,
  });
}

/** Starts a transient network: gone once it is destroyed. */
export function startTransientNetwork(
  connection: LibvirtConnection,
  xml: string,
  options: CallOptions = {},
): Promise<NetworkRef> {
  return connection.call({
    ...options,
    procedure: 'networkCreateXML',
    write: (writer) => writer.string(xml),
    read: readNetwork,
  });
}

export function startNetwork(
  connection: LibvirtConnection,
  network: NetworkRef,
  options: CallOptions = {},
): Promise<void> {
  return networkCall(connection, 'networkCreate', network, options);
}

export function destroyNetwork(
  connection: LibvirtConnection,
  network: NetworkRef,
  options: CallOptions = {},
): Promise<void> {
  return networkCall(connection, 'networkDestroy', network, options);
}

export function undefineNetwork(
  connection: LibvirtConnection,
  network: NetworkRef,
  options: CallOptions = {},
): Promise<void> {
  return networkCall(connection, 'networkUndefine', network, options);
}

export interface DhcpLease {
  readonly interfaceName: string;
  /** Unix seconds. */
  readonly expiresAtSeconds: bigint;
  readonly mac: string | undefined;
  readonly address: string;
  readonly hostname: string | undefined;
}

export function dhcpLeases(
  connection: LibvirtConnection,
  network: NetworkRef,
  options: CallOptions = {},
): Promise<DhcpLease[]> {
  return connection.call({
    ...options,
    procedure: 'networkGetDhcpLeases',
    object: network.name,
    write: (writer) => {
      writeNetwork(writer, network);
      writer.bool(false).i32(1).u32(0);
    },
    read: (reader) => {
      const leases = reader.array(() => readLease(reader), LEASES_MAX);
      reader.u32();
      return leases;
    },
  });
}

function readLease(reader: XdrReader): DhcpLease {
  const text = (): string | undefined => reader.optional(() => reader.string());
  const interfaceName = reader.string();
  const expiresAtSeconds = reader.i64();
  reader.i32(); // address family
  const mac = text();
  text(); // identity association
  const address = reader.string();
  reader.u32(); // prefix length
  const hostname = text();
  text(); // client id
  return { interfaceName, expiresAtSeconds, mac, address, hostname };
}

async function networkCall(
  connection: LibvirtConnection,
  procedure: Procedure,
  network: NetworkRef,
  options: CallOptions,
): Promise<void> {
  await connection.call({
    ...options,
    procedure,
    object: network.name,
    write: (writer) => writeNetwork(writer, network),
    read: nothing,
  });
}
