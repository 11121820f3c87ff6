import type { LaneConfig, SealingLane } from './sealing-lane.ts';

/** Where sealing runs. Lanes are opened per disk and closed with it. */
export interface Sealer {
  /** How many lanes work side by side. */
  readonly laneCount: number;
  openLane(config: LaneConfig): Promise<SealingLane>;
}
