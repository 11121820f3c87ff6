import { openOperation, type Operation } from '@lifeboat/host/operation';
import type { EngineDeps } from './deps.ts';
import type { OperationInput } from './verbs.ts';

/** The intent of an operation: which verb, on what. The same for every attempt. */
export interface Intent {
  readonly verb:
    | 'capture'
    | 'check-filesystems'
    | 'preflight'
    | 'boot-test'
    | 'restore'
    | 'redeploy'
    | 'revert'
    | 'compare'
    | 'define';
  readonly machine: string;
}

/** Takes the operation's directory and lock. The verb runs under `operation.signal` from here on. */
export function beginOperation(
  deps: EngineDeps,
  input: OperationInput,
  intent: Intent,
  signal: AbortSignal,
): Promise<Operation> {
  const { stateRoot } = deps;
  const { opId, epoch } = input;
  return openOperation({ stateRoot, opId, intent, signal, ...(epoch === undefined ? {} : { epoch }) });
}
