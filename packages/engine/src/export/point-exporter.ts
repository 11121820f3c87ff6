import type { MachineId, PointId } from '@lifeboat/foundation/ids';

export interface PointExportRequest {
  readonly machineId: MachineId;
  readonly pointId: PointId;
  /** Operation directory: pid file and log of the exporting process. */
  readonly directory: string;
  /** Directory QEMU can reach: the socket `point.sock` is made there. */
  readonly qemuDirectory: string;
}

export interface PointExport {
  readonly socketPath: string;
  /** One export per disk, named as the disk. */
  readonly disks: readonly { readonly name: string; readonly sizeBytes: number }[];
  /**
   * Errors: `engine.export-failed` if the process has ended without being told to, as it does when the store does not answer:
   * what a guest then found wrong with its disks says nothing about the point.
   */
  assertServing(): void;
  /** Bytes guests have read from it so far are in its log; ends the process and removes the socket. Idempotent. */
  stop(): Promise<void>;
}

/**
 * Serves all disks of a point, read-only, over NBD, from a process of its own that dies with this one: the process that
 * runs verbs must stay responsive while a guest reads, and a fault in one must not become a fault in the other.
 */
export type PointExporter = (request: PointExportRequest, options: { signal: AbortSignal }) => Promise<PointExport>;
