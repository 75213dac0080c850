// Command purge is the Lambda function behind POST /operator/organizations/{id}/purge.
package main

import (
	"orgservice/shared/api"
	"orgservice/shared/wire"
)

func main() { api.Serve(wire.Handler(api.Purge)) }
