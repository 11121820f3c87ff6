import { join } from 'node:path';
import type { Configuration } from '@lifeboat/runtime/configuration';

/**
 * A configuration of its own for a run of the demo: repository, key, stack and operations lie in the run's directory, so
 * that nothing of the user's is touched and everything goes with it. Only cache and hypervisor are shared.
 */
export function runConfiguration(user: Configuration, directory: string): Configuration {
  return {
    ...user,
    stateRoot: directory,
    repository: {
      place: { kind: 'directory', path: join(directory, 'repository') },
      secret: { kind: 'key-file', path: join(directory, 'keys', 'repository.key') },
    },
    temporal: { namespace: 'default' },
  };
}
