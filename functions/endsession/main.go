// Command endsession is the Lambda function behind DELETE /admin/sessions/{id}.
package main

import (
	"orgservice/shared/api"
	"orgservice/shared/wire"
)

func main() { api.Serve(wire.Handler(api.EndSession)) }
