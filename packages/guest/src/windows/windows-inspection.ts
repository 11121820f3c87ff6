/**
 * An installed Windows, as one document: what its registry and its files say of how it starts. JSON-able; made from bytes the guest wrote.
 */
import type { WindowsVersion } from './windows-version.ts';

export interface WindowsInspection {
  /** Volume that holds it: `sda2`. */
  readonly root: string;
  /** `Windows`, or `WINNT`; as it is written there. */
  readonly directory: string;
  /** `Windows Server 2022 Standard`; empty where the registry does not say. */
  readonly productName: string;
  readonly servicePack: string;
  /** Absent: the registry does not say all of it. */
  readonly version?: WindowsVersion;
  /** The last part of a build, since Windows 10. */
  readonly updateRevision?: number;
  /** Numbers of the control set it ran with, and of the one it starts with next. */
  readonly controlSets: { readonly current: number; readonly default: number };
  /** Drivers of disk controllers that are installed, each with how it starts in the current control set. */
  readonly storageServices: readonly ServiceInspection[];
  /** Drivers of the processor's power states: Intel's do not start on AMD, nor the other way round. */
  readonly processorServices: readonly ServiceInspection[];
  /** Where Windows looks up which driver a device gets before it can install one. */
  readonly deviceDatabase: 'critical-devices' | 'driver-database';
  /** Of disk controllers, in that database. */
  readonly bootDevices: readonly { readonly id: string; readonly service: string }[];
  /** Of Windows for x86 up to 7, whose HAL is one of several. */
  readonly hal?: { readonly hal: string; readonly kernel: string };
  readonly hives: readonly HiveInspection[];
  /** `hibernated`, also after "fast startup": memory of a running Windows belongs to these disks, and a change to them destroys both. */
  readonly hibernation: 'none' | 'hibernated' | 'resumed' | 'unknown';
  /** `automatic`: it starts again at once after a blue screen, which nobody reads then. */
  readonly restartAfterCrash: 'automatic' | 'off' | 'unknown';
  /** Where it looks for drivers of new devices. */
  readonly devicePath?: string;
  /** Of the volume: its filesystem says that it was not closed, or wants a check. */
  readonly filesystem: { readonly isDirty: boolean; readonly hasOpenLog: boolean };
  /** What could not be told, a sentence each. */
  readonly problems: readonly string[];
}

export interface ServiceInspection {
  readonly name: string;
  /** 0 boot, 1 system, 2 automatic, 3 on demand, 4 disabled. */
  readonly start: number;
  /** Windows 8 and later start it otherwise than `start` says where this is there. */
  readonly hasStartOverride: boolean;
  /** Relative to the directory of Windows, with slashes; as the service says, or where it is looked for. */
  readonly image: string;
  readonly isImageThere: boolean;
}

export interface HiveInspection {
  readonly name: 'SYSTEM' | 'SOFTWARE' | 'DRIVERS';
  /** `replayed`: it was not written to its end, and its logs hold the rest. */
  readonly state: 'clean' | 'replayed' | 'dirty' | 'unreadable';
  /** Log entries that are not in the hive yet. */
  readonly logEntries: number;
  /** Why it is dirty or unreadable. */
  readonly problem?: string;
}
