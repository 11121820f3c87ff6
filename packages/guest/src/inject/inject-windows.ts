/**
 * Carries out the plan for a Windows, under a journal (edit-under-journal.ts), and returns what is really installed: read from the blocks of the
 * edited disk by our own reader of NTFS and registry, not from what was written.
 */
import { createHash } from 'node:crypto';
import { openFileDevice } from '@lifeboat/disk/file-device';
import { sliceDevice } from '@lifeboat/disk/bytes';
import { openFat } from '@lifeboat/disk/files/fat';
import type { FileNode } from '@lifeboat/disk/files/file-node';
import { findNtfs, openNtfs } from '@lifeboat/disk/files/ntfs';
import { LifeboatError } from '@lifeboat/foundation/errors';
import type { VerbContext } from '@lifeboat/foundation/progress';
import { GiB, MiB } from '@lifeboat/foundation/units';
import type { FileEdit, GuestTree } from '../access/guest-tree.ts';
import type { GuestChanges, GuestDisk } from '../access/open-guest.ts';
import { findPath, findWindowsDirectory, placeForPath } from '../access/windows-paths.ts';
import { addEfiFiles } from '../boot-chain/efi-system-partition.ts';
import type { DriverStore } from '../drivers/driver-store.ts';
import type { FilesystemInspection } from '../inspect/guest-inspection.ts';
import { inspectWindows } from '../windows/inspect-windows.ts';
import { assertHolds, editHive } from '../windows/registry/edit-hive.ts';
import { MAX_LOG_BYTES } from '../windows/registry/hive-log.ts';
import { RegistryHive } from '../windows/registry/registry-hive.ts';
import type { ServiceInspection } from '../windows/windows-inspection.ts';
import type { WindowsEdit, WindowsPlan } from '../windows/windows-plan.ts';
import { assertNotRefused } from './inject-drivers.ts';
import { editUnderJournal } from './edit-under-journal.ts';

export interface WindowsInjectOptions {
  readonly disks: readonly GuestDisk[];
  readonly plan: WindowsPlan;
  readonly store: DriverStore;
  /** The operation's directory; the journal is `journal/` in it and must be kept to revert. */
  readonly directory: string;
}

export interface WindowsInjection {
  /** Drivers of disk controllers as they are registered now, those that start at boot. */
  readonly bootServices: readonly ServiceInspection[];
  readonly edits: readonly FileEdit[];
  readonly journalDirectory: string;
}

interface Done {
  readonly volume: Pick<FilesystemInspection, 'disk' | 'offsetBytes' | 'lengthBytes'>;
  readonly bootServices: readonly ServiceInspection[];
}

const MAX_HIVE_BYTES = GiB;
/** The largest driver of a disk controller has some 2 MB; a package's tools may have more. */
const MAX_DRIVER_FILE_BYTES = 512 * MiB;
/** bootmgfw.efi has 1.5 MB. */
const MAX_LOADER_BYTES = 16 * MiB;
const LOGS = ['LOG1', 'LOG2', 'LOG'];
/** Whoever may write to the drivers of Windows may write to those that are added, and nobody else. */
const ACCESS_OF = 'System32/drivers';

/**
 * Idempotent per `directory`, as `editUnderJournal` is.
 * Errors: `guest.redeploy-refused`, `guest.changed-since-plan`, `guest.injection-incomplete`, `guest.driver-package-unusable`, those of hives, of
 * opening and of the journal.
 */
export async function injectWindows(options: WindowsInjectOptions, context: VerbContext): Promise<WindowsInjection> {
  const { plan, disks, directory } = options;
  assertNotRefused(plan);
  const { result, edits, journalDirectory } = await editUnderJournal<Done>(
    {
      disks,
      directory,
      system: 'windows',
      edit: async ({ tree, mounted, diskFiles }) => {
        const { disk, offsetBytes, lengthBytes } = mounted.root;
        const done = await applyEdits(tree, options, context);
        for (const edit of plan.edits) {
          if (edit.kind === 'efi-loader')
            done.push(await putLoader(diskFiles, edit, { directory, signal: context.signal }));
        }
        return { edits: done, result: { volume: { disk, offsetBytes, lengthBytes }, bootServices: [] } };
      },
      verify: (changes, done) => verify(changes, done, plan),
    },
    context,
  );
  return { bootServices: result.bootServices, edits, journalDirectory };
}

async function applyEdits(
  tree: GuestTree,
  { plan, store, directory }: WindowsInjectOptions,
  { signal, progress }: VerbContext,
): Promise<FileEdit[]> {
  const windows = await findWindowsDirectory(tree);
  if (windows === undefined) throw changed('The volume holds no Windows any more', plan);
  const edits: FileEdit[] = [];
  for (const edit of plan.edits) {
    if (edit.kind !== 'driver-file') continue;
    signal.throwIfAborted();
    progress({ phase: 'inject', doneBytes: 0, detail: edit.path });
    edits.push(await copyDriverFile(tree, windows, { edit, store }));
  }
  for (const [hive, parts] of Map.groupBy(plan.edits.filter(isRegistry), (edit) => edit.hive)) {
    signal.throwIfAborted();
    progress({ phase: 'inject', doneBytes: 0, detail: hive });
    const changes = parts.flatMap((part) => part.changes);
    const path = await findPath(tree, `${windows}/System32/config/${hive}`);
    if (path === undefined) throw changed(`${hive} is not there any more`, plan);
    const logs: string[] = [];
    for (const suffix of LOGS) {
      const log = await findPath(tree, `${path}.${suffix}`);
      if (log !== undefined) logs.push(log);
    }
    const bytes = (await tree.read(path, { maxBytes: MAX_HIVE_BYTES })) as Buffer;
    const opened = await RegistryHive.open({
      hive: { sizeBytes: bytes.length, readAt: async (at, length) => Buffer.from(bytes.subarray(at, at + length)) },
      logs: logs.map((log) => async () => (await tree.read(log, { maxBytes: MAX_LOG_BYTES })) ?? Buffer.alloc(0)),
      what: hive,
    });
    edits.push(await tree.overwrite(path, await editHive(opened, changes, { directory, what: hive, signal })));
    // Their entries are in the hive now; Windows must not find them again.
    for (const log of logs)
      if ((await tree.stat(log))?.size !== 0) edits.push(await tree.overwrite(log, Buffer.alloc(0)));
  }
  return edits;
}

async function copyDriverFile(
  tree: GuestTree,
  windows: string,
  { edit, store }: { edit: Extract<WindowsEdit, { kind: 'driver-file' }>; store: DriverStore },
): Promise<FileEdit> {
  const { packageId, path, sha256 } = edit.source;
  const content = await store.readFile(packageId, path, { maxBytes: MAX_DRIVER_FILE_BYTES });
  if (hashOf(content) !== sha256) {
    throw new LifeboatError(
      'guest.driver-package-unusable',
      `${path} of the package ${packageId} is not what the plan was made for`,
      {
        context: { path },
      },
    );
  }
  // A service whose file is no program stops Windows before it can say so.
  if (edit.path.startsWith(ACCESS_OF) && content.toString('latin1', 0, 2) !== 'MZ') {
    throw new LifeboatError(
      'guest.driver-package-unusable',
      `${path} of the package ${packageId} is no driver: it does not begin with MZ`,
      {
        context: { path },
      },
    );
  }
  const access = await findPath(tree, `${windows}/${ACCESS_OF}`);
  if (access === undefined)
    throw new LifeboatError('guest.changed-since-plan', `${windows}/${ACCESS_OF} is not there any more`);
  const target = await placeForPath(tree, `${windows}/${edit.path}`);
  const folder = target.slice(0, target.lastIndexOf('/'));
  const made: string[] = [];
  for (let at = folder; !(await tree.isDirectory(at)); at = at.slice(0, at.lastIndexOf('/'))) made.push(at);
  await tree.makeDirectory(folder);
  for (const one of made) await tree.copyNtfsAccess(access, one);
  if (await tree.isFile(target)) return tree.overwrite(target, content);
  const done = await tree.write(target, content);
  await tree.copyNtfsAccess(access, target);
  return done;
}

type LoaderEdit = Extract<WindowsEdit, { kind: 'efi-loader' }>;

async function putLoader(
  diskFiles: ReadonlyMap<string, string>,
  edit: LoaderEdit,
  work: { directory: string; signal: AbortSignal },
): Promise<FileEdit> {
  const path = diskFiles.get(edit.disk);
  if (path === undefined) throw new LifeboatError('internal.bug', `there is no disk ${edit.disk}`);
  const content = await loaderAt(path, edit, edit.from);
  if (content === undefined) throw new LifeboatError('guest.changed-since-plan', `${edit.from} is not there any more`);
  const { offsetBytes, lengthBytes } = edit;
  await addEfiFiles({ path, offsetBytes, lengthBytes }, new Map([[edit.path.slice(1), content]]), work);
  const newSha256 = hashOf(content);
  return { path: edit.path, oldSha256: hashOf(Buffer.alloc(0)), newSha256, oldBytes: 0, newBytes: content.length };
}

async function loaderAt(diskPath: string, place: LoaderEdit, path: string): Promise<Buffer | undefined> {
  const device = await openFileDevice(diskPath);
  try {
    let node: FileNode | undefined = await openFat(sliceDevice(device, place));
    for (const name of path.split('/').slice(1)) node = node?.kind === 'directory' ? await node.child(name) : undefined;
    return node?.kind === 'file' ? await node.read(MAX_LOADER_BYTES) : undefined;
  } finally {
    await device.close();
  }
}

/** On the edited disk as it will be, unmounted: every planned change, and what Windows will find. */
async function verify({ disks }: GuestChanges, { volume }: Done, plan: WindowsPlan): Promise<Done> {
  const overlay = disks.find(({ disk }) => disk.name === volume.disk);
  if (overlay === undefined) throw new LifeboatError('internal.bug', `there is no disk ${volume.disk}`);
  const device = await openFileDevice(overlay.changedPath);
  try {
    const ntfs = await openNtfs(sliceDevice(device, volume));
    const directory = await ntfs.root.child(plan.directory);
    if (directory === undefined) throw incomplete(`${plan.directory} is not there`);
    for (const edit of plan.edits) {
      if (edit.kind === 'registry') {
        const file = await findNtfs(directory, `System32/config/${edit.hive}`);
        if (file === undefined) throw incomplete(`${edit.hive} is not there`);
        await assertHolds(await RegistryHive.open({ hive: file, logs: [], what: edit.hive }), edit.changes, edit.hive);
      } else if (edit.kind === 'efi-loader') {
        const changedPath = disks.find(({ disk }) => disk.name === edit.disk)?.changedPath ?? '';
        const [from, to] = [await loaderAt(changedPath, edit, edit.from), await loaderAt(changedPath, edit, edit.path)];
        if (from === undefined || !to?.equals(from)) throw incomplete(`${edit.path} is not a copy of ${edit.from}`);
      } else {
        const file = await findNtfs(directory, edit.path);
        const isRight = file?.kind === 'file' && hashOf(await file.read()) === edit.source.sha256;
        if (!isRight) throw incomplete(`${edit.path} is not the file of the package`);
      }
    }
    const now = await inspectWindows(ntfs, plan.root);
    return { volume, bootServices: (now?.storageServices ?? []).filter(({ start }) => start === 0) };
  } finally {
    await device.close();
  }
}

function isRegistry(edit: WindowsEdit): edit is Extract<WindowsEdit, { kind: 'registry' }> {
  return edit.kind === 'registry';
}

function hashOf(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}

function changed(what: string, { root }: WindowsPlan): LifeboatError {
  return new LifeboatError('guest.changed-since-plan', `${what} on ${root}`, { context: { root } });
}

function incomplete(problem: string): LifeboatError {
  return new LifeboatError('guest.injection-incomplete', `The edited Windows was read back, and ${problem}`);
}
