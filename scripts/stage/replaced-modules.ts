/** What bundles workflows stays behind, and 60 MB with it: a staged worker has them bundled already. */
import { join } from 'node:path';
import type { Plugin } from 'rolldown';

export function replacedModules(root: string): Plugin {
  const replaced = new Map([
    [
      join(root, 'worker/src/workflow-bundle.ts'),
      `export { workflowBundle } from '${join(import.meta.dirname, 'staged-workflows.ts')}';`,
    ],
    // Loaded by the SDK's worker in any case, and not called when the bundle is given.
    [
      join(root, 'node_modules/@temporalio/worker/lib/workflow/bundler.js'),
      'exports.defaultWorkflowInterceptorModules = [];',
    ],
  ]);
  return {
    name: 'replaced-modules',
    load: (id) => replaced.get(id),
  };
}
