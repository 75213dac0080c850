// Package e2e is the service seen from outside: its tests talk HTTP to a
// running gateway and hold what comes back against the contract.
//
// By default the tests build command local, with the race detector if they
// have it themselves, and start it as a process of its own on an embedded
// database in a temporary folder, or with MONGO_URL set on that server, in a
// database of its own that is dropped at the end. Because the suite owns that
// process it also restarts it, takes its database away (for which it is an
// embedded one in any case), kills it and the functions under it, and reads
// everything it has printed: no password, no token and no connection string
// may be there.
//
// With ORGSERVICE_URL set, the tests run against the service at that address
// instead, and leave out those that need the process. ORGSERVICE_GATEWAY tells
// what serves it: "local", which is the default, or "sam" for sam local
// start-api. All that the two do differently is in the table dialects. Every
// test makes organizations of its own under random names, so the service may
// have been running for long; its throttling has to be wide enough:
//
//	go run ./local -parameter OpenThrottleRate=10000 -parameter OpenThrottleBurst=10000
package e2e
