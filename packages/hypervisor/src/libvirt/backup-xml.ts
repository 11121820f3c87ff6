/** The XML of backup jobs and checkpoints, both ways. */
import path from 'node:path';
import { LifeboatError } from '@lifeboat/foundation/errors';
import { parsePointId, type PointId } from '@lifeboat/foundation/ids';
import { attributeOf, child, childrenOf, readXml } from '../xml/xml-reader.ts';
import { element } from '../xml/xml-writer.ts';

const CHECKPOINT_PREFIX = 'lb-';
/** A unix socket's path must fit into the kernel's sockaddr_un, its closing zero included. */
const SOCKET_PATH_MAX_BYTES = 107;

export function checkpointName(pointId: PointId): string {
  return `${CHECKPOINT_PREFIX}${pointId}`;
}

/** The point a checkpoint belongs to; undefined when it is not one of ours. */
export function pointOfCheckpoint(name: string): PointId | undefined {
  if (!/^lb-p\d{8}T\d{6}Z-[0-9a-f]{8}$/.test(name)) return undefined;
  return parsePointId(name.slice(CHECKPOINT_PREFIX.length));
}

export function dirtyBitmapOf(disk: string): string {
  return `backup-${disk}`;
}

export function socketPathIn(directory: string): string {
  const socketPath = path.join(directory, 'nbd.sock');
  if (Buffer.byteLength(socketPath) > SOCKET_PATH_MAX_BYTES) {
    throw new LifeboatError(
      'hypervisor.bad-directory',
      `${socketPath} is longer than the ${SOCKET_PATH_MAX_BYTES} bytes of a unix socket's path`,
      { context: { directory } },
    );
  }
  return socketPath;
}

export function scratchPathIn(directory: string, disk: string): string {
  return path.join(directory, `scratch-${disk}.qcow2`);
}

export interface PlannedDisk {
  readonly name: string;
  /** Gets a checkpoint now. */
  readonly tracked: boolean;
  /** Name of the checkpoint whose changes are exported, too. */
  readonly incrementalFrom: string | undefined;
}

/** `others` are the domain's disks that take no part, such as CD-ROMs: libvirt would include them by itself. */
export function backupXml(directory: string, disks: readonly PlannedDisk[], others: readonly string[]): string {
  return element(
    'domainbackup',
    { mode: 'pull' },
    element('server', { transport: 'unix', socket: socketPathIn(directory) }),
    element(
      'disks',
      {},
      ...disks.map(({ name, incrementalFrom }) =>
        element(
          'disk',
          {
            name,
            backup: 'yes',
            type: 'file',
            exportname: name,
            ...(incrementalFrom === undefined
              ? { backupmode: 'full' }
              : { backupmode: 'incremental', incremental: incrementalFrom, exportbitmap: dirtyBitmapOf(name) }),
          },
          element('driver', { type: 'qcow2' }),
          element('scratch', { file: scratchPathIn(directory, name) }),
        ),
      ),
      ...others.map((name) => element('disk', { name, backup: 'no' })),
    ),
  ).source;
}

/** Undefined when no disk can be tracked: then there is no checkpoint to make. */
export function checkpointXml(
  pointId: PointId,
  disks: readonly PlannedDisk[],
  others: readonly string[],
): string | undefined {
  if (!disks.some(({ tracked }) => tracked)) return undefined;
  return element(
    'domaincheckpoint',
    {},
    element('name', {}, checkpointName(pointId)),
    element('description', {}, `Lifeboat: change tracking since recovery point ${pointId}`),
    element(
      'disks',
      {},
      ...disks.map(({ name, tracked }) => element('disk', { name, checkpoint: tracked ? 'bitmap' : 'no' })),
      ...others.map((name) => element('disk', { name, checkpoint: 'no' })),
    ),
  ).source;
}

/** The one directory that holds the socket and all scratch files of a running job; undefined when there is no such. */
export function directoryOfJob(xml: string): string | undefined {
  const backup = readXml(xml);
  const files = childrenOf(child(backup, 'disks'), 'disk')
    .filter((disk) => disk.attributes.get('backup') === 'yes')
    .map((disk) => attributeOf(disk, 'scratch', 'file'));
  const all = [attributeOf(backup, 'server', 'socket'), ...files];
  const directories = new Set(all.map((file) => (file === undefined ? undefined : path.dirname(file))));
  return directories.size === 1 ? [...directories][0] : undefined;
}
