// Command endsessions is the Lambda function behind DELETE /admin/sessions.
package main

import (
	"orgservice/shared/api"
	"orgservice/shared/wire"
)

func main() { api.Serve(wire.Handler(api.EndSessions)) }
