/**
 * Whether an error is about one object, and says nothing of the store or of other objects. Everybody who reads something goes by this one
 * list: an object on bad sectors must not stop what one of changed bytes does not.
 */
import { hasCode, type LifeboatError } from '@lifeboat/foundation/errors';

/** It is there, and its bytes are not to be had as they were written: changed, cut short, or on bad sectors. */
export function isBadObject(error: unknown): error is LifeboatError {
  return hasCode(error, 'repository.object-damaged', 'repository.object-unreadable');
}

/** Nothing can be made of it: bad, of a newer release, or not there at all. */
export function isUselessObject(error: unknown): error is LifeboatError {
  return isBadObject(error) || hasCode(error, 'repository.object-missing', 'repository.newer-version');
}
