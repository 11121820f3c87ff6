/** Every workflow of the worker: what this module exports is registered under its name (see `WORKFLOW_TYPES`). */
export { BackupMachine } from './backup-machine.ts';
export { Host } from './host.ts';
export { Machine } from './machine.ts';
export { Preflight } from './preflight.ts';
export { RedeployMachine } from './redeploy-machine.ts';
export { RestoreMachine } from './restore-machine.ts';
export { VerifyPoint } from './verify-point.ts';
