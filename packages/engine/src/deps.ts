import type { Clock } from '@lifeboat/foundation/clock';
import type { HostId } from '@lifeboat/foundation/ids';
import type { Log } from '@lifeboat/foundation/log';
import type { Random } from '@lifeboat/foundation/random';
import type { Hypervisor } from '@lifeboat/hypervisor/port';
import type { Repository } from '@lifeboat/repository/repository';
import type { PointExporter } from './export/point-exporter.ts';

/** What the engine is given by the runtime. */
export interface EngineDeps {
  readonly hypervisor: Hypervisor;
  readonly repository: Repository;
  /** Serves a point to QEMU from a process of its own. */
  readonly exporter: PointExporter;
  readonly stateRoot: string;
  readonly hostId: HostId;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
}
