// Command delete is the Lambda function behind DELETE /org/delete.
package main

import (
	"orgservice/shared/api"
	"orgservice/shared/wire"
)

func main() { api.Serve(wire.Handler(api.Delete, wire.DeleteGrace)) }
