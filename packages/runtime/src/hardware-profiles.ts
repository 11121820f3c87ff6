import { loadHardwareProfile } from '@lifeboat/guest/profile/shipped-profiles';

/**
 * What a hardware profile calls itself: for a command that wants to know early whether there is one.
 * Errors: `guest.profile-not-found`, `guest.profile-invalid`.
 */
export async function describeProfile(
  nameOrPath: string,
): Promise<{ readonly name: string; readonly description: string }> {
  const { name, description } = await loadHardwareProfile(nameOrPath);
  return { name, description };
}
