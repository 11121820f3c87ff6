/** What will be done to an installed Windows so that it starts on other hardware, and why. JSON-able: shown, stored, carried out later. */
import type { RegistryData } from './registry/registry-data.ts';

export type RegistryChange =
  | { readonly kind: 'set'; readonly key: string; readonly name: string; readonly data: RegistryData }
  /** With everything below it; one that is not there is fine. */
  | { readonly kind: 'delete-key'; readonly key: string };

export type WindowsEdit =
  | {
      readonly kind: 'registry';
      readonly hive: 'SYSTEM' | 'SOFTWARE';
      readonly why: string;
      readonly changes: readonly RegistryChange[];
    }
  | {
      readonly kind: 'driver-file';
      readonly why: string;
      /** In the store of driver packages. */
      readonly source: { readonly packageId: string; readonly path: string; readonly sha256: string };
      /** Below the directory of Windows, with slashes. Its folder is there in every Windows, or is made. */
      readonly path: string;
    }
  | {
      readonly kind: 'efi-loader';
      readonly why: string;
      readonly disk: string;
      /** The EFI system partition. */
      readonly offsetBytes: number;
      readonly lengthBytes: number;
      /** On it, with slashes. */
      readonly from: string;
      readonly path: string;
    };

export type WindowsRefusalCode =
  | 'hibernated'
  | 'filesystem-not-closed'
  | 'hive-dirty'
  | 'hive-unreadable'
  | 'version-unknown'
  | 'device-database-unknown'
  | 'no-boot-driver'
  | 'driver-architecture'
  | 'driver-incomplete'
  | 'driver-unsigned'
  | 'firmware-change'
  | 'dynamic-disk'
  | 'hal-not-acpi';

export interface WindowsRefusal {
  readonly code: WindowsRefusalCode;
  /** Whole sentences: what is wrong, and what would help. */
  readonly text: string;
}

/** Which driver answers a boot controller of the target. */
export interface PlannedDriver {
  readonly device: string;
  /** The id that met. */
  readonly id: string;
  readonly service: string;
  /** `installed`: Windows has it already. */
  readonly from: 'installed' | { readonly packageId: string; readonly name: string; readonly inf: string };
}

export interface WindowsPlan {
  readonly system: 'windows';
  readonly formatVersion: 1;
  readonly guest: string;
  readonly root: string;
  readonly directory: string;
  readonly profile: { readonly name: string; readonly description: string };
  /** None where the plan refuses. */
  readonly edits: readonly WindowsEdit[];
  readonly warnings: readonly string[];
  /** Non-empty: nothing will be changed. */
  readonly refusals: readonly WindowsRefusal[];
  readonly drivers: readonly PlannedDriver[];
}
