/** The edits of a plan, on the files of an opened guest. What they did is read back from the guest, not assumed. */
import { createHash } from 'node:crypto';
import { LifeboatError } from '@lifeboat/foundation/errors';
import type { VerbContext } from '@lifeboat/foundation/progress';
import type { FileEdit, GuestTree } from '../access/guest-tree.ts';
import { readCpio } from '../linux/cpio.ts';
import { replaceName } from '../linux/device-names.ts';
import { buildDriverArchive, paddingBefore } from '../linux/driver-archive.ts';
import { moduleFilesOf } from '../linux/initrd.ts';
import { MAX_INITRD_BYTES } from '../linux/kernels.ts';
import { moduleNameOf } from '../linux/module-name.ts';
import { replaceHostKey } from './new-host-key.ts';
import type { PlannedEdit, RedeployPlan } from '../plan/redeploy-plan.ts';

export interface InstalledKernel {
  readonly version: string;
  readonly initrdPath: string;
  /** Names of all modules the written initrd holds for this kernel, sorted. */
  readonly modules: readonly string[];
  /** Those it did not hold before. */
  readonly addedModules: readonly string[];
  readonly addedBytes: number;
}

export interface EditContext {
  /** Unix ms; stamped on the appended files. */
  readonly nowMs: number;
  /** The operation's. */
  readonly directory: string;
  readonly context: VerbContext;
}

export interface AppliedEdits {
  readonly kernels: readonly InstalledKernel[];
  readonly edits: readonly FileEdit[];
}

/** Errors: `guest.changed-since-plan`, `guest.injection-incomplete`, `guest.module-missing`, `guest.no-space`. */
export async function applyEdits(tree: GuestTree, plan: RedeployPlan, context: EditContext): Promise<AppliedEdits> {
  const kernels: InstalledKernel[] = [];
  const edits: FileEdit[] = [];
  for (const edit of plan.edits) {
    context.context.signal.throwIfAborted();
    context.context.progress({ phase: 'inject', doneBytes: 0, detail: edit.path });
    if (edit.kind === 'append-drivers') {
      const done = await appendDrivers(tree, edit, context);
      kernels.push(done.kernel);
      edits.push(done.edit);
    } else if (edit.kind === 'keep-drivers') {
      edits.push(await keepDrivers(tree, edit, plan.profile.name));
    } else if (edit.kind === 'rename-disks') {
      edits.push(await rename(tree, edit, replaceName));
    } else if (edit.kind === 'rename-cards') {
      edits.push(await rename(tree, edit, (line, from, to) => line.replaceAll(from, to)));
    } else if (edit.kind === 'add-mount') {
      edits.push(await addLine(tree, edit));
    } else if (edit.kind === 'empty-file') {
      edits.push(await tree.replace(edit.path, []));
    } else if (edit.kind === 'new-host-key') {
      const { directory } = context;
      edits.push(...(await replaceHostKey(tree, edit, { directory, signal: context.context.signal })));
    } else {
      edits.push(await tree.remove(edit.path));
    }
  }
  return { kernels, edits };
}

type AppendDrivers = Extract<PlannedEdit, { kind: 'append-drivers' }>;

async function appendDrivers(
  tree: GuestTree,
  edit: AppendDrivers,
  context: EditContext,
): Promise<{ kernel: InstalledKernel; edit: FileEdit }> {
  const { path, kernelVersion } = edit;
  const original = await readInitrd(tree, path);
  const foundSha256 = sha256(original);
  if (foundSha256 !== edit.initrdSha256) {
    throw new LifeboatError(
      'guest.changed-since-plan',
      `${path} is not the file the plan was made for: ${foundSha256.slice(0, 12)} instead of ${edit.initrdSha256.slice(0, 12)}`,
      { context: { path, found: foundSha256, planned: edit.initrdSha256 } },
    );
  }
  const archive = await buildDriverArchive(tree, {
    kernelVersion,
    moduleFiles: edit.moduleFiles,
    modulesRoot: edit.modulesRoot,
    mtimeSeconds: Math.floor(context.nowMs / 1000),
  });
  const padding = paddingBefore(original.length);
  const done = await tree.replace(path, [original, padding, archive]);

  const added = await readBackAdded(tree, edit, original.length);
  return {
    edit: done,
    kernel: {
      version: kernelVersion,
      initrdPath: path,
      modules: [...new Set([...edit.presentModules, ...added])].sort(),
      addedModules: added,
      addedBytes: done.newBytes - done.oldBytes,
    },
  };
}

/**
 * The modules of the archive that now follows the initrd, read from the guest as its kernel will read it. What stands
 * before it is the file that was inspected, by its hash, so its modules are known.
 */
async function readBackAdded(tree: GuestTree, edit: AppendDrivers, originalBytes: number): Promise<string[]> {
  const written = await readInitrd(tree, edit.path);
  const incomplete = (problem: string): LifeboatError =>
    new LifeboatError('guest.injection-incomplete', `${edit.path} was written, but read back it ${problem}`, {
      context: { path: edit.path },
    });
  if (sha256(written.subarray(0, originalBytes)) !== edit.initrdSha256)
    throw incomplete('does not begin with the old initrd');
  const archiveAt = originalBytes + paddingBefore(originalBytes).length;
  const { entries } = readCpio(written, archiveAt, edit.path);
  const files = moduleFilesOf(entries)[edit.kernelVersion] ?? [];
  const absent = edit.moduleFiles.filter((file) => !files.includes(file));
  if (absent.length > 0) throw incomplete(`lacks ${absent.join(', ')}`);
  return files.map(moduleNameOf).sort();
}

async function keepDrivers(
  tree: GuestTree,
  edit: Extract<PlannedEdit, { kind: 'keep-drivers' }>,
  profileName: string,
): Promise<FileEdit> {
  const comment = `# Needed on '${profileName}', added by Lifeboat's redeploy.\n`;
  if (edit.generator === 'dracut') {
    return tree.write(edit.path, Buffer.from(`${comment}add_drivers+=" ${edit.modules.join(' ')} "\n`));
  }
  const old = (await tree.read(edit.path)) ?? Buffer.alloc(0);
  const newline = old.length > 0 && old.at(-1) !== 0x0a ? '\n' : '';
  return tree.replace(edit.path, [old, Buffer.from(`${newline}${comment}${edit.modules.join('\n')}\n`)]);
}

async function addLine(
  tree: GuestTree,
  { path, line }: Extract<PlannedEdit, { kind: 'add-mount' }>,
): Promise<FileEdit> {
  const old = (await tree.read(path)) ?? Buffer.alloc(0);
  const newline = old.length > 0 && old.at(-1) !== 0x0a ? '\n' : '';
  return tree.replace(path, [old, Buffer.from(`${newline}# Added by Lifeboat's redeploy.\n${line}\n`)]);
}

/** Line by line, so that a name in a comment stays what it is. */
async function rename(
  tree: GuestTree,
  { path, names }: Extract<PlannedEdit, { kind: 'rename-disks' | 'rename-cards' }>,
  replace: (line: string, from: string, to: string) => string,
): Promise<FileEdit> {
  // Bytes, not characters: what is not UTF-8 stays as it is.
  const lines = ((await tree.read(path)) ?? Buffer.alloc(0)).toString('latin1').split('\n');
  for (const { line, from, to } of names) {
    const before = lines[line - 1] ?? '';
    const after = replace(before, from, to);
    if (after === before) {
      throw new LifeboatError('guest.changed-since-plan', `${path} does not name ${from} in line ${line} any more`, {
        context: { path, line, name: from },
      });
    }
    lines[line - 1] = after;
  }
  return tree.replace(path, [Buffer.from(lines.join('\n'), 'latin1')]);
}

async function readInitrd(tree: GuestTree, path: string): Promise<Buffer> {
  const bytes = await tree.read(path, { maxBytes: MAX_INITRD_BYTES });
  if (bytes !== undefined) return bytes;
  throw new LifeboatError('guest.changed-since-plan', `${path} does not exist any more`, { context: { path } });
}

function sha256(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}
