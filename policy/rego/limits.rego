# METADATA
# title: How much is too much
# description: >-
#   Disclosures to one actor within an hour, by his kind. They lie far above
#   what work needs, and stop whoever walks through everybody. A limit of zero
#   lets nothing through; no value means "without limit".
package counterfoil.limits

# METADATA
# title: Disclosures an hour
# description: The limit for each kind of actor.
per_hour := {
	"visitor": 1000,
	"agent": 10000,
	"channel": 100000,
	"admin": 500,
	"operator": 1000,
	"job": 1000000,
}
