import { messageOf } from '@lifeboat/foundation/errors';
import { TestWorkflowEnvironment } from '@temporalio/testing';

/** The SDK gives the server 5 s to start, once; a Java program on a busy machine needs longer now and then. */
const ATTEMPTS = 6;

/** io.temporal's test server, in which waiting costs no time. The path comes from the launcher, which sets it up. */
export async function timeSkippingServer(): Promise<TestWorkflowEnvironment> {
  const path = process.env['LIFEBOAT_TEMPORAL_TEST_SERVER'];
  if (!path) throw new Error('LIFEBOAT_TEMPORAL_TEST_SERVER is not set: run the tests through `npm test`');
  for (let attempt = 1; ; attempt++) {
    try {
      return await TestWorkflowEnvironment.createTimeSkipping({
        server: { executable: { type: 'existing-path', path } },
      });
    } catch (error) {
      if (attempt === ATTEMPTS || !messageOf(error).includes('did not start within')) throw error;
    }
  }
}
