/**
 * What will be done to a guest so that it starts on other hardware, and why. A pure function of what is inside the image
 * and what the hardware asks for: the same two give the same plan, no disk is touched, and a plan that refuses says so
 * before anything was changed.
 */
import { partitionTypes } from '@lifeboat/disk/partition-table';
import { formatBytes, MiB } from '@lifeboat/foundation/units';
import type { GuestInspection } from '../inspect/guest-inspection.ts';
import { stableName, type DeviceNameUse } from '../linux/device-names.ts';
import { resolveDrivers, type DriverResolution } from '../linux/driver-resolution.ts';
import type { HostKeyType } from '../linux/identity.ts';
import type { KernelInspection } from '../linux/kernels.ts';
import { moduleNameOf } from '../linux/module-name.ts';
import { giveIdentity } from './give-identity.ts';
import { renameCards } from './rename-cards.ts';
import type { HardwareProfile } from '../profile/hardware-profile.ts';
import { modaliasesOf } from '../profile/modalias.ts';

export type PlannedEdit =
  | {
      readonly kind: 'append-drivers';
      /** The initrd. */
      readonly path: string;
      readonly why: string;
      readonly kernelVersion: string;
      /** Files the initrd lacks, relative to /lib/modules/<version>, in load order. */
      readonly moduleFiles: readonly string[];
      readonly modules: readonly string[];
      /** The initrd the plan was made for; another one is not edited. */
      readonly initrdSha256: string;
      readonly modulesRoot: string;
      /** What it holds for this kernel already. */
      readonly presentModules: readonly string[];
    }
  | {
      readonly kind: 'keep-drivers';
      /** /etc/initramfs-tools/modules, or a file of our own that dracut reads. */
      readonly path: string;
      readonly generator: 'initramfs-tools' | 'dracut';
      readonly why: string;
      readonly modules: readonly string[];
    }
  | {
      readonly kind: 'rename-disks';
      readonly path: string;
      readonly why: string;
      /** Counted from 1; `from` stands there as a whole word. */
      readonly names: readonly { readonly line: number; readonly from: string; readonly to: string }[];
    }
  | {
      readonly kind: 'add-mount';
      /** /etc/fstab */
      readonly path: string;
      readonly why: string;
      readonly line: string;
    }
  | {
      readonly kind: 'rename-cards';
      readonly path: string;
      readonly why: string;
      /** Counted from 1; `from` stands there. */
      readonly names: readonly { readonly line: number; readonly from: string; readonly to: string }[];
    }
  | {
      readonly kind: 'remove-file' | 'empty-file';
      readonly path: string;
      readonly why: string;
    }
  | {
      readonly kind: 'new-host-key';
      /** The private key; the public one lies beside it. */
      readonly path: string;
      readonly why: string;
      readonly keyType: HostKeyType;
    };

export type RefusalCode =
  | 'no-kernel'
  | 'no-modules'
  | 'no-initrd'
  | 'initrd-unreadable'
  | 'initrd-generator-unknown'
  | 'initrd-modules-renamed'
  | 'no-boot-driver'
  | 'boot-driver-blacklisted'
  | 'module-dependency-missing'
  | 'unstable-device-name'
  | 'firmware-change'
  | 'volume-has-snapshot'
  | 'no-space';

export interface Refusal {
  readonly code: RefusalCode;
  /** Whole sentences: what is wrong, and what would help. */
  readonly text: string;
}

export interface RedeployPlan {
  readonly formatVersion: 1;
  readonly guest: string;
  readonly profile: { readonly name: string; readonly description: string };
  readonly edits: readonly PlannedEdit[];
  /** What the operator should know; the plan can be applied. */
  readonly warnings: readonly string[];
  /** Non-empty: nothing will be changed. */
  readonly refusals: readonly Refusal[];
  /** Per kernel, which module answers which of the hardware's requests. */
  readonly drivers: readonly { readonly kernelVersion: string; readonly resolution: DriverResolution }[];
}

/** From the design: what a package operation of the guest's own would want to find free. */
const MIN_FREE_ROOT_BYTES = 100 * MiB;
const MIN_FREE_BOOT_BYTES = 50 * MiB;
const MIN_FREE_INODES = 100;
/** Ours alone: a redeploy writes it anew. */
const DRACUT_DRIVERS = '/etc/dracut.conf.d/90-lifeboat.conf';
/** Index files and modules of one kernel: 8 MB for Debian 12 on virtio. */
const ALLOWANCE_PER_KERNEL_BYTES = 16 * MiB;

/** Where distributions and systemd mount it. */
const EFI_MOUNT_POINTS = ['/boot/efi', '/efi', '/boot'];

const SECURE_BOOT_WARNING =
  'The target has Secure Boot: it starts only loaders and kernels that are signed for its keys. Those of the guest stay as they are, and the boot test runs without Secure Boot.';

/** `newIdentity`: the original goes on running beside the machine that is made. */
export function planRedeploy(
  inspection: GuestInspection,
  profile: HardwareProfile,
  { newIdentity = false }: { readonly newIdentity?: boolean } = {},
): RedeployPlan {
  const requests = modaliasesOf(profile);
  const edits: PlannedEdit[] = [];
  const warnings: string[] = profile.secureBoot ? [SECURE_BOOT_WARNING] : [];
  const refusals: Refusal[] = [...checkFirmware(inspection, profile), ...checkSnapshots(inspection)];
  const drivers: { kernelVersion: string; resolution: DriverResolution }[] = [];
  const persistent = new Set<string>();

  if (inspection.kernels.length === 0) {
    refusals.push({
      code: 'no-kernel',
      text: 'The image holds no kernel (/boot/vmlinuz-*), so nothing in it could start.',
    });
  }
  const decisive = decisiveKernels(inspection);
  for (const kernel of inspection.kernels) {
    const problems: Refusal[] = [];
    const edit = planKernel(kernel, { inspection, requests, drivers, problems, warnings });
    if (edit !== undefined && problems.length === 0) {
      edits.push(edit);
      // Their dependencies are found by initramfs-tools itself.
      const asked = drivers.at(-1)?.resolution.requests.flatMap((request) => request.modules) ?? [];
      for (const name of asked) if (kernel.modules?.builtin.includes(name) === false) persistent.add(name);
    }
    // A kernel that is not booted by default may be a remnant; it must not keep the machine from starting.
    if (decisive.has(kernel.version)) refusals.push(...problems);
    else warnings.push(...problems.map((problem) => `Kernel ${kernel.version} will not start there: ${problem.text}`));
  }

  edits.push(...keepForLater(inspection, persistent));
  edits.push(...renameDisks(inspection, { profile, decisive, warnings, refusals }));
  if (newIdentity) edits.push(...giveIdentity(inspection, warnings));
  edits.push(...renameCards(inspection.networkAddresses, profile, warnings));
  const efi = profile.firmware === 'uefi' ? mountEfiSystem(inspection) : undefined;
  if (efi) edits.push(efi);
  if (inspection.lvmDevicesFile !== undefined) {
    edits.push({
      kind: 'remove-file',
      path: inspection.lvmDevicesFile,
      why: 'LVM would wait for disks with the serial numbers of the old hardware; without the file it looks at all',
    });
  }
  if (edits.length > 0) refusals.push(...checkSpace(inspection, edits));
  return {
    formatVersion: 1,
    guest: inspection.os.prettyName,
    profile: { name: profile.name, description: profile.description },
    edits: refusals.length > 0 ? [] : edits,
    warnings,
    refusals,
    drivers,
  };
}

function planKernel(
  kernel: KernelInspection,
  context: {
    inspection: GuestInspection;
    requests: ReturnType<typeof modaliasesOf>;
    drivers: { kernelVersion: string; resolution: DriverResolution }[];
    problems: Refusal[];
    warnings: string[];
  },
): Extract<PlannedEdit, { kind: 'append-drivers' }> | undefined {
  const { problems, warnings } = context;
  const { version, initrd, initrdPath, modules } = kernel;
  const refuse = (code: RefusalCode, text: string): undefined => {
    problems.push({ code, text });
    return undefined;
  };
  if (modules === undefined) {
    const why = kernel.problems.join('; ') || `there is no /lib/modules/${version} with its index`;
    return refuse('no-modules', `The modules of kernel ${version} cannot be used: ${why}.`);
  }
  const resolution = resolveDrivers(modules, context.requests);
  context.drivers.push({ kernelVersion: version, resolution });
  checkDrivers(version, resolution, context);
  if (problems.length > 0) return undefined;
  if (resolution.missing.length > 0) {
    return refuse(
      'module-dependency-missing',
      `The module tree of kernel ${version} is incomplete: ${resolution.missing.join(', ')}. Reinstall the kernel package in the source machine.`,
    );
  }
  if (resolution.closure.length === 0) return undefined; // everything is built into the kernel
  if (initrd === undefined || initrdPath === undefined) {
    return refuse(
      'no-initrd',
      `Kernel ${version} needs ${resolution.closure.join(', ')} before it can reach its disk, and has no initrd.`,
    );
  }
  if (initrd.problem !== undefined) return refuse('initrd-unreadable', `${initrd.problem}.`);
  const present = new Set(initrd.moduleFiles[version]);
  const lacking = resolution.closure.filter((name) => !present.has(modules.modules[name]?.path ?? ''));
  if (lacking.length === 0) return undefined;
  if (initrd.generator === 'unknown') {
    return refuse(
      'initrd-generator-unknown',
      `${initrdPath} was made neither by initramfs-tools nor by dracut, so it is not known how it loads drivers; it lacks ${lacking.join(', ')}.`,
    );
  }
  if (kernel.renamedModules.length > 0) {
    return refuse(
      'initrd-modules-renamed',
      `${initrdPath} holds modules under other file names than /lib/modules/${version} (${kernel.renamedModules.slice(0, 3).join(', ')}), mostly because they are compressed in one place only; an appended index would hide them.`,
    );
  }
  const network = resolution.requests.filter((request) => request.role === 'network' && request.modules.length === 0);
  for (const request of network) {
    warnings.push(
      `Kernel ${version} has no driver for the network device ${request.device} (${request.modalias}); the machine starts without it.`,
    );
  }
  const asked = resolution.requests.filter((request) => request.role === 'boot-storage');
  return {
    kind: 'append-drivers',
    path: initrdPath,
    why: `${[...new Set(asked.map((request) => request.device))].join(', ')} needs ${[...new Set(asked.flatMap((request) => request.modules))].join(', ')}`,
    kernelVersion: version,
    moduleFiles: lacking.flatMap((name) => modules.modules[name]?.path ?? []),
    modules: lacking,
    initrdSha256: initrd.sha256,
    modulesRoot: initrd.modulesRoot,
    presentModules: [...present].map(moduleNameOf).sort(),
  };
}

function checkDrivers(
  version: string,
  resolution: DriverResolution,
  context: { inspection: GuestInspection; problems: Refusal[] },
): void {
  const boot = resolution.requests.filter((request) => request.role === 'boot-storage');
  const unanswered = boot.filter((request) => request.modules.length === 0);
  if (unanswered.length > 0) {
    const ids = unanswered.map((request) => `${request.device} as ${request.modalias}`).join('; ');
    context.problems.push({
      code: 'no-boot-driver',
      text: `Kernel ${version} has no driver for the boot controller. Looked for: ${ids}. Install a kernel that has it in the source machine, or choose another target.`,
    });
  }
  const blacklist = new Set(context.inspection.blacklistedModules);
  const forbidden = boot.flatMap((request) => request.modules).filter((name) => blacklist.has(name));
  if (forbidden.length > 0) {
    context.problems.push({
      code: 'boot-driver-blacklisted',
      text: `The guest's modprobe configuration forbids ${[...new Set(forbidden)].join(', ')}, which the boot controller needs.`,
    });
  }
}

/** The kernels that must start: the one GRUB lists first, or all where that cannot be told. */
function decisiveKernels(inspection: GuestInspection): Set<string> {
  const first = inspection.bootLoader.grubEntries[0]?.kernel;
  const version = first === undefined ? undefined : /vmlinu[xz]-(.+)$/.exec(first)?.[1];
  const all = inspection.kernels.map((kernel) => kernel.version);
  return new Set(version !== undefined && all.includes(version) ? [version] : all);
}

function checkFirmware(inspection: GuestInspection, profile: HardwareProfile): Refusal[] {
  const { firmware } = inspection.bootLoader;
  if (firmware.length === 0 || firmware.includes(profile.firmware)) return [];
  return [
    {
      code: 'firmware-change',
      text: `The guest boots by ${firmware.join(' and ')}, the profile '${profile.name}' has ${profile.firmware} firmware. ${
        profile.firmware === 'uefi'
          ? 'Restored with the layout "gpt" for UEFI (`--layout gpt --uefi`), it boots by both.'
          : 'From UEFI to BIOS the boot chain is not changed.'
      }`,
    },
  ];
}

/** Where a machine that knew BIOS only got an EFI system partition: later updates of its loader look for it at /boot/efi. */
function mountEfiSystem({ disks, fstab }: GuestInspection): PlannedEdit | undefined {
  const types: readonly string[] = [partitionTypes.efiSystem, partitionTypes.mbrEfiSystem];
  const found = disks.flatMap(({ table, filesystems }) =>
    filesystems.filter(
      ({ partition, type, uuid }) =>
        type === 'vfat' &&
        /^[0-9A-F]{4}-[0-9A-F]{4}$/.test(uuid) &&
        table.partitions.some(({ number, type: of }) => number === partition && types.includes(of)),
    ),
  );
  const [only] = found;
  const isMounted = fstab.some(({ mountPoint }) => EFI_MOUNT_POINTS.includes(mountPoint));
  if (!only || found.length > 1 || isMounted || fstab.length === 0) return undefined;
  return {
    kind: 'add-mount',
    path: '/etc/fstab',
    why: 'updates of the boot loader look for the EFI system partition there; without it the machine starts all the same',
    line: `UUID=${only.uuid} /boot/efi vfat umask=0077,nofail 0 1`,
  };
}

/** A snapshot keeps what LVM overwrites in its origin; what is written past LVM it would show as if it had always been so. */
function checkSnapshots({ root, mounts }: GuestInspection): Refusal[] {
  const edited = [root, ...mounts.map(({ filesystem }) => filesystem)];
  return edited.flatMap(({ volume }) =>
    volume?.kind === 'logical-volume' && volume.isOrigin
      ? [
          {
            code: 'volume-has-snapshot',
            text: `The logical volume ${volume.name} has snapshots, which an edit would spoil. Remove them in the source machine and back it up again.`,
          } as const,
        ]
      : [],
  );
}

/** What a later initrd has to be built with, for each generator that is there. */
function keepForLater(inspection: GuestInspection, persistent: ReadonlySet<string>): PlannedEdit[] {
  const why = 'the next kernel update has to build its initrd with these drivers too';
  const { initramfsModules, dracutDrivers } = inspection;
  const lacking = (known: readonly string[]): string[] => [...persistent].filter((name) => !known.includes(name));
  const edits: PlannedEdit[] = [];
  if (initramfsModules !== undefined && lacking(initramfsModules.modules).length > 0) {
    const modules = lacking(initramfsModules.modules);
    edits.push({ kind: 'keep-drivers', path: initramfsModules.path, generator: 'initramfs-tools', why, modules });
  }
  if (dracutDrivers !== undefined && lacking(dracutDrivers).length > 0) {
    // Its file is written anew, so all of them stand in it.
    edits.push({ kind: 'keep-drivers', path: DRACUT_DRIVERS, generator: 'dracut', why, modules: [...persistent] });
  }
  return edits;
}

function renameDisks(
  inspection: GuestInspection,
  context: {
    profile: HardwareProfile;
    decisive: ReadonlySet<string>;
    warnings: string[];
    refusals: Refusal[];
  },
): PlannedEdit[] {
  const { profile, decisive, warnings, refusals } = context;
  const target = diskNamePrefix(profile);
  // Without an initrd the kernel itself looks for its root, and knows partitions, not filesystems.
  const bare = inspection.kernels.some(({ version, initrd }) => decisive.has(version) && initrd === undefined);
  const renamed = new Map<string, { line: number; from: string; to: string }[]>();
  for (const use of inspection.unstableNames) {
    const to = stableName(use, inspection, { byPartition: bare && use.purpose === 'root' });
    if (to !== undefined) {
      renamed.set(use.path, [...(renamed.get(use.path) ?? []), { line: use.line, from: use.name, to }]);
      continue;
    }
    const text = `${use.path} line ${use.line} names ${use.name} ${purposeOf(use)}, a name that depends on the controller; on '${profile.name}' disks are /dev/${target}*, and which filesystem was meant cannot be told.`;
    if (use.optional || use.name.startsWith(`/dev/${target}`)) warnings.push(`${text} Better use UUID=.`);
    else
      refusals.push({
        code: 'unstable-device-name',
        text: `${text} Use UUID= in the source machine and back it up again.`,
      });
  }
  for (const { path, line, from, to } of inspection.arrayNames) {
    if (to === undefined) {
      warnings.push(
        `${path} line ${line} looks for an array by ${from}, and which one is meant cannot be told. Better use UUID=.`,
      );
    } else {
      renamed.set(path, [...(renamed.get(path) ?? []), { line, from, to }]);
      warnings.push(
        `${path} looked for arrays by names of disks. An initial RAM disk that holds a copy of it still does: rebuild it once the machine runs.`,
      );
    }
  }
  return [...renamed].map(([path, names]) => ({
    kind: 'rename-disks',
    path,
    why: `on '${profile.name}' disks are /dev/${target}*`,
    names,
  }));
}

function purposeOf({ purpose, mountPoint }: DeviceNameUse): string {
  if (purpose === 'mount') return `for ${mountPoint}`;
  return { root: 'as root', resume: 'to resume from', unlock: 'to unlock' }[purpose];
}

function diskNamePrefix(profile: HardwareProfile): string {
  const { diskController } = profile.emulation;
  if (diskController === 'virtio-blk') return 'vd';
  return diskController === 'nvme' ? 'nvme' : 'sd';
}

function checkSpace(inspection: GuestInspection, edits: readonly PlannedEdit[]): Refusal[] {
  const appended = edits.filter((edit) => edit.kind === 'append-drivers');
  const largest = Math.max(
    0,
    ...appended.map(
      (edit) => inspection.kernels.find((kernel) => kernel.version === edit.kernelVersion)?.initrd?.sizeBytes ?? 0,
    ),
  );
  // Each initrd is written beside the old one before it replaces it.
  const forInitrds = largest + appended.length * ALLOWANCE_PER_KERNEL_BYTES;
  const needs: Readonly<Record<string, number>> = {
    '/': MIN_FREE_ROOT_BYTES,
    '/boot': Math.max(MIN_FREE_BOOT_BYTES, forInitrds),
  };
  return inspection.space.flatMap(({ path, freeBytes, freeInodes, totalInodes }) => {
    const neededBytes = needs[path] ?? 0;
    const enoughInodes = totalInodes === 0 || freeInodes >= MIN_FREE_INODES;
    if (freeBytes >= neededBytes && enoughInodes) return [];
    const text = `${path} of the guest has ${formatBytes(freeBytes)} and ${freeInodes} inodes free; ${formatBytes(neededBytes)} and ${MIN_FREE_INODES} inodes are needed.`;
    return [{ code: 'no-space', text } as const];
  });
}
