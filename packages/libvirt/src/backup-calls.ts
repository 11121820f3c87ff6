/** Checkpoints and backup jobs of a domain. */
import { nothing, type CallOptions, type LibvirtConnection } from './connection.ts';
import {
  readCheckpoint,
  readParameters,
  writeCheckpoint,
  writeDomain,
  type CheckpointRef,
  type DomainRef,
  type Parameters,
} from './references.ts';

const CHECKPOINTS_MAX = 16_384;

/** Without `redefine` the dirty bitmap begins now; with it, libvirt only learns of one that is in the image already. */
export function createCheckpoint(
  connection: LibvirtConnection,
  domain: DomainRef,
  xml: string,
  options: CallOptions & { redefine?: boolean } = {},
): Promise<CheckpointRef> {
  const { redefine = false, ...rest } = options;
  return connection.call({
    ...rest,
    procedure: 'domainCheckpointCreateXML',
    object: domain.name,
    write: (writer) => {
      writeDomain(writer, domain);
      writer.string(xml).u32(redefine ? 1 : 0);
    },
    read: readCheckpoint,
  });
}

/** In no particular order unless `topological`: then parents come before their children. */
export function listCheckpoints(
  connection: LibvirtConnection,
  domain: DomainRef,
  options: CallOptions & { topological?: boolean } = {},
): Promise<CheckpointRef[]> {
  const { topological = false, ...rest } = options;
  return connection.call({
    ...rest,
    procedure: 'domainListAllCheckpoints',
    object: domain.name,
    write: (writer) => {
      writeDomain(writer, domain);
      writer.i32(1).u32(topological ? 2 : 0);
    },
    read: (reader) => {
      const checkpoints = reader.array(() => readCheckpoint(reader), CHECKPOINTS_MAX);
      reader.i32();
      return checkpoints;
    },
  });
}

/** Error: `libvirt.no-such-checkpoint`. */
export function checkpointByName(
  connection: LibvirtConnection,
  domain: DomainRef,
  name: string,
  options: CallOptions = {},
): Promise<CheckpointRef> {
  return connection.call({
    ...options,
    procedure: 'domainCheckpointLookupByName',
    object: `${domain.name} ${name}`,
    write: (writer) => {
      writeDomain(writer, domain);
      writer.string(name).u32(0);
    },
    read: readCheckpoint,
  });
}

/**
 * With `size` libvirt looks at the bitmaps and says how much changed since; this is also the only call that says
 * `libvirt.checkpoint-inconsistent` without starting a job. Needs a running domain.
 */
export function checkpointXml(
  connection: LibvirtConnection,
  checkpoint: CheckpointRef,
  options: CallOptions & { size?: boolean } = {},
): Promise<string> {
  const { size = false, ...rest } = options;
  return connection.call({
    ...rest,
    procedure: 'domainCheckpointGetXMLDesc',
    object: `${checkpoint.domain.name} ${checkpoint.name}`,
    write: (writer) => {
      writeCheckpoint(writer, checkpoint);
      writer.u32(size ? 4 : 0);
    },
    read: (reader) => reader.string(),
  });
}

/** Merges its bitmap into its parent's, so that nothing after the parent is lost. `metadataOnly` leaves the image alone. */
export async function deleteCheckpoint(
  connection: LibvirtConnection,
  checkpoint: CheckpointRef,
  options: CallOptions & { metadataOnly?: boolean } = {},
): Promise<void> {
  const { metadataOnly = false, ...rest } = options;
  await connection.call({
    ...rest,
    procedure: 'domainCheckpointDelete',
    object: `${checkpoint.domain.name} ${checkpoint.name}`,
    write: (writer) => {
      writeCheckpoint(writer, checkpoint);
      writer.u32(metadataOnly ? 2 : 0);
    },
    read: nothing,
  });
}

/** Starts a backup job and, at the same instant, a checkpoint. `libvirt.busy` after 30 s while another job runs. */
export async function beginBackup(
  connection: LibvirtConnection,
  domain: DomainRef,
  xml: { backup: string; checkpoint: string | undefined },
  options: CallOptions = {},
): Promise<void> {
  await connection.call({
    ...options,
    procedure: 'domainBackupBegin',
    object: domain.name,
    write: (writer) => {
      writeDomain(writer, domain);
      writer.string(xml.backup).optional(xml.checkpoint, (value) => writer.string(value));
      writer.u32(0);
    },
    read: nothing,
  });
}

/** The job as libvirt runs it, with the indexes and bitmaps it chose. Error: `libvirt.no-backup-job`. */
export function backupXml(
  connection: LibvirtConnection,
  domain: DomainRef,
  options: CallOptions = {},
): Promise<string> {
  return connection.call({
    ...options,
    procedure: 'domainBackupGetXMLDesc',
    object: domain.name,
    write: (writer) => {
      writeDomain(writer, domain);
      writer.u32(0);
    },
    read: (reader) => reader.string(),
  });
}

/** Ends the running job, whatever it is: check first whose it is. For a pull backup this is the normal end. */
export async function abortJob(
  connection: LibvirtConnection,
  domain: DomainRef,
  options: CallOptions = {},
): Promise<void> {
  await connection.call({
    ...options,
    procedure: 'domainAbortJob',
    object: domain.name,
    write: (writer) => writeDomain(writer, domain),
    read: nothing,
  });
}

/** The running job: `type` 0 is none. */
export function jobStats(
  connection: LibvirtConnection,
  domain: DomainRef,
  options: CallOptions = {},
): Promise<{ type: number; parameters: Parameters }> {
  return connection.call({
    ...options,
    procedure: 'domainGetJobStats',
    object: domain.name,
    write: (writer) => {
      writeDomain(writer, domain);
      writer.u32(0);
    },
    read: (reader) => ({ type: reader.i32(), parameters: readParameters(reader) }),
  });
}
