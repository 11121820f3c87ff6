/**
 * What Lifeboat needs of a hypervisor. The libvirt implementation is in `libvirt/`; every error is a LifeboatError.
 *
 * Owner tag: whatever is created here carries {opId, hostId} (in the domain's metadata, the network's name, the
 * checkpoint's name), so that a reaper can tell ours from somebody else's.
 */
import type { HostId, MachineId, OpId, PointId } from '@lifeboat/foundation/ids';
import type { Image } from './screen/image.ts';

export interface Hypervisor {
  describeHost(): Promise<HostDescription>;

  listMachines(): Promise<MachineDescription[]>;
  /** By name or UUID. Errors: `hypervisor.no-such-machine`. */
  findMachine(nameOrUuid: string): Promise<MachineDescription>;
  /** Cheap enough to be asked some times a second. A machine that is off, or gone, has `ended`. */
  machineState(machineId: MachineId): Promise<MachineState>;

  /** What every machine that is on runs from, none left out: for whoever is about to write to a file or device. */
  listSources(): Promise<MachineSources[]>;

  // ------------------------------------------------------------ backup
  /**
   * Whether the dirty bitmap since the checkpoint of `parentPointId` can be believed for this disk: the checkpoint is there
   * and consistent, `epoch` (as stored with the parent point) is still the disk's, and the image holds no internal snapshot.
   */
  trackingFor(
    machineId: MachineId,
    disk: string,
    parent: { readonly pointId: PointId; readonly epoch: string },
  ): Promise<{ readonly usable: true } | { readonly usable: false; readonly reason: string }>;
  /**
   * Starts one job for all disks: one instant, a checkpoint `lb-<pointId>` on every disk that can have one. Disks listed in
   * `incrementalDisks` also offer the dirty bitmap since `parentPointId`.
   */
  beginBackup(input: BeginBackup, options: { signal: AbortSignal }): Promise<BackupJob>;
  /** The job that runs on the machine now; undefined when none does. */
  currentBackup(machineId: MachineId): Promise<CurrentBackup | undefined>;
  /** The running job of `directory`, as `beginBackup` described it. */
  attachBackup(machineId: MachineId, directory: string): Promise<BackupJob>;
  /**
   * Ends the job whose scratch lies in `directory`, removes its files, and lets the machine go on if a failed write stopped it
   * while the job ran. Whoever reads an export has closed before. Another's job is never touched. Idempotent.
   */
  endBackup(machineId: MachineId, directory: string): Promise<void>;
  /** Removes checkpoint `lb-<pointId>` with its bitmaps; metadata only where the bitmap is broken. Idempotent. */
  deleteCheckpoint(machineId: MachineId, pointId: PointId): Promise<void>;
  /** Points of which this machine still has checkpoints, oldest first; checkpoints of others are not listed. */
  listCheckpoints(machineId: MachineId): Promise<PointId[]>;

  // ------------------------------------------------------------ machines of ours
  /** A transient machine; with auto-destroy it is gone soon after this process is. The console is open from the first byte. */
  startTransient(shape: MachineShape, options: { autoDestroy: boolean; signal: AbortSignal }): Promise<RunningMachine>;
  /** The libvirt XML a shape becomes; for plans and people. */
  renderMachine(shape: MachineShape): Promise<string>;
  defineMachine(shape: MachineShape): Promise<MachineId>;
  /** Idempotent: one that runs already, or is suspended, is started. */
  start(machineId: MachineId): Promise<void>;
  /** Power off, at once. Idempotent. */
  destroy(machineId: MachineId): Promise<void>;
  /** Removes the definition with checkpoints' metadata and NVRAM; disks stay. Idempotent. */
  undefineMachine(machineId: MachineId): Promise<void>;
  /** Opens a machine that runs already. */
  openRunning(machineId: MachineId): Promise<RunningMachine>;

  /** Everything on this host that carries an owner tag, for the reaper. */
  listTagged(): Promise<TaggedItem[]>;
  removeTagged(item: TaggedItem): Promise<void>;

  close(): Promise<void>;
}

export interface Owner {
  readonly opId: OpId;
  readonly hostId: HostId;
}

export interface TaggedItem extends Owner {
  readonly kind: 'domain';
  readonly name: string;
}

export interface HostDescription {
  readonly uri: string;
  readonly libvirtVersion: string;
  readonly qemuVersion: string;
  readonly accelerator: 'kvm' | 'tcg';
  /** Why this accelerator: a sentence. */
  readonly acceleratorReason: string;
}

export type Controller =
  | 'virtio-blk'
  | 'virtio-scsi'
  | 'ahci'
  | 'ide'
  | 'nvme'
  | 'lsi'
  | 'megasas'
  | 'pvscsi'
  | 'mptsas';

export interface MachineDescription {
  readonly id: MachineId;
  readonly name: string;
  readonly running: boolean;
  readonly memoryMiB: number;
  readonly vcpus: number;
  readonly firmware: 'bios' | 'uefi';
  /** The firmware starts only what is signed; absent: no. */
  readonly secureBoot?: boolean;
  /** Version of the emulated TPM; absent: none, or one of the host's that is passed through. */
  readonly tpm?: string;
  /** As libvirt names the board: `pc-q35-7.2`. */
  readonly machineType?: string;
  /** The file of its UEFI variables; there is none before the first start. */
  readonly nvramPath?: string;
  readonly disks: readonly MachineDisk[];
  readonly nics: readonly { readonly mac: string; readonly model: string; readonly network?: string }[];
  /** The channel of the guest agent exists (an agent may still not answer). */
  readonly guestAgentChannel: boolean;
  readonly domainXml: string;
}

export interface MachineSources {
  readonly machine: string;
  /** Files and devices of this host, as the definition names them. */
  readonly paths: readonly string[];
  /** Disks of which no path can be told: a sentence each. */
  readonly untold: readonly string[];
}

export interface MachineDisk {
  /** The hypervisor's target name: `sda`, `vda`. Names the disk in points. */
  readonly name: string;
  readonly controller: Controller | 'other';
  readonly path: string;
  readonly format: 'qcow2' | 'raw';
  readonly sizeBytes: number;
  readonly serial?: string;
  /** Binds change tracking to what the disk is now: domain UUID, path and inode, qcow2 snapshot table. */
  readonly epoch: string;
}

export interface BeginBackup {
  readonly machineId: MachineId;
  readonly pointId: PointId;
  readonly parentPointId?: PointId;
  /** Disks whose dirty bitmap since the parent is wanted. */
  readonly incrementalDisks: readonly string[];
  /** Existing directory that QEMU can write: sockets and scratch files go there. */
  readonly directory: string;
  /** Ask the guest agent to freeze file systems for the instant of the snapshot. */
  readonly freeze: boolean;
}

export interface BackupJob {
  readonly pointId: PointId;
  readonly disks: readonly BackupDisk[];
  readonly consistency: 'filesystem' | 'crash';
  readonly consistencyReason: string;
  /** Unix ms of the instant all disks show. */
  readonly instantMs: number;
  /** The machine was `disk-failed` before the job began, so the job did not do that. */
  readonly diskFailedBefore: boolean;
}

export interface BackupDisk {
  readonly name: string;
  readonly sizeBytes: number;
  readonly socketPath: string;
  readonly exportName: string;
  /** Meta context of the dirty bitmap, for the disks of `incrementalDisks`. */
  readonly dirtyContext?: string;
  /** Whether the point gets a checkpoint on this disk, so that the next one can be incremental; if not, why. */
  readonly tracked: boolean;
  readonly untrackedReason: string;
}

export interface CurrentBackup {
  /** Scratch or socket lies in a directory of ours. */
  readonly ours: boolean;
  readonly directory?: string;
}

export interface MachineShape extends Owner {
  readonly name: string;
  readonly uuid?: string;
  readonly memoryMiB: number;
  readonly vcpus: number;
  readonly firmware: 'bios' | 'uefi';
  /** UEFI variables to start with, as they were captured. Without, those of a machine that never ran. */
  readonly nvram?: Uint8Array;
  /** In boot order. */
  readonly disks: readonly ShapeDisk[];
  readonly network:
    | { readonly kind: 'none' }
    /**
     * A card on a network inside QEMU on which there is nothing but an address service: 10.0.2.2 gives out 10.0.2.15. Nothing that the guest
     * sends leaves QEMU; this host reaches ports of the guest through `forward`. Every packet is written into `capturePath` (pcap).
     */
    | { readonly kind: 'isolated'; readonly model: string; readonly capturePath: string }
    | { readonly kind: 'network'; readonly name: string; readonly model: string; readonly mac?: string };
}

export interface ShapeDisk {
  readonly controller: Controller;
  readonly path: string;
  readonly format: 'qcow2' | 'raw';
  /** For an overlay: the NBD export it stands on, written into the definition so that nothing is probed. */
  readonly backing?:
    | { readonly socketPath: string; readonly exportName: string }
    | { readonly path: string; readonly format: 'qcow2' | 'raw' };
  readonly serial: string;
}

/**
 * `disk-failed`: QEMU stopped it, state intact, because a disk could not be read or written; it does not go on by itself.
 * `suspended`: stopped for any other reason; somebody may let it go on.
 */
export type MachineState = 'running' | 'suspended' | 'disk-failed' | 'ended';

export interface Screen {
  readonly image: Image;
  /** The VGA text screen, 80 x 25, lines without trailing blanks; empty string in graphics modes. */
  readonly text: string;
}

export interface RunningMachine {
  readonly id: MachineId;
  readonly name: string;
  /** Serial console from the first byte this process could see; ends when the machine does. */
  console(): AsyncIterable<Uint8Array>;
  writeConsole(text: string): Promise<void>;
  /** The screen as PNG. */
  screenshot(): Promise<Uint8Array>;
  /** The screen for programs. Errors: `hypervisor.no-screen`. */
  look(): Promise<Screen>;
  /** How often the guest was reset since this process holds the machine. */
  resets(): number;
  /**
   * With an isolated network: the port of 127.0.0.1 on this host that leads to a TCP port of the guest. It is open at once; whether the guest
   * answers there is seen in the capture. Idempotent.
   */
  forward(guestPort: number): Promise<number>;
  running(): Promise<boolean>;
  state(): Promise<MachineState>;
  /** Whether QEMU stopped it because the file of a disk could not grow: this host's filesystem is full, not the disk bad. */
  outOfSpace(): Promise<boolean>;
  /** CPU time all vCPUs used so far, ms. */
  cpuTimeMs(): Promise<number>;
  /** Sums over all disks since power-on. */
  blockStats(): Promise<{ readonly readBytes: number; readonly readWaitMs: number; readonly writtenBytes: number }>;
  /** Runs a shell command through the guest agent. Errors: `libvirt.agent-unresponsive`. */
  runInGuest(
    command: string,
    options: { timeoutMs: number; signal: AbortSignal },
  ): Promise<{ readonly exitCode: number; readonly output: string }>;
  /** Power off, at once. Idempotent. */
  destroy(): Promise<void>;
  /** Lets go of the console; the machine goes on unless it is auto-destroy. */
  close(): Promise<void>;
}
